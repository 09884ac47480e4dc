"""The Django app: registers the system checks."""

from __future__ import annotations

from django.apps import AppConfig


class PoolingConfig(AppConfig):
    """``"pooling"`` in INSTALLED_APPS."""

    name = "pooling"
    verbose_name = "Pooling"

    def ready(self) -> None:
        from . import checks

        checks.register_all()
