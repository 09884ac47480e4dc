"""The Django app: registers the system checks, and what the database backend is to tell and to ask."""

from __future__ import annotations

from django.apps import AppConfig
from django.db import connections


class PoolingConfig(AppConfig):
    """``"pooling"`` in INSTALLED_APPS."""

    name = "pooling"
    verbose_name = "Pooling"

    def ready(self) -> None:
        from . import checks, nesting_checks, order_checks
        from .status import publisher

        checks.register_all()
        order_checks.register_all()
        nesting_checks.register_all()
        publisher.watch()
        engines = [database["ENGINE"] for database in connections.settings.values()]
        if any(engine.startswith("pooling.backends.mysql") for engine in engines):
            # Only then: it needs the driver of MySQL.
            from . import fleet, sources
            from .backends.mysql import fleet as backend

            backend.shared_ledger = fleet.ledger
            sources.start()
