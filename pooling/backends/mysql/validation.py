"""Django's own ``DatabaseValidation``, which needs a connection; without a usable pool it says so instead."""

from __future__ import annotations

from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.mysql import validation as mysql

__all__ = ["DatabaseValidation"]


class DatabaseValidation(mysql.DatabaseValidation):
    """For ``manage.py check --database``, ``migrate`` and ``runserver``."""

    connection: Any

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """pooling.E003 for a pool that cannot be made; else what Django finds by asking the server."""
        try:
            _ = self.connection.pool
        except ImproperlyConfigured as error:
            hint = "Until then nothing else can be checked with this database."
            return [checks.Error(str(error), hint=hint, id="pooling.E003")]
        return list(super().check(**kwargs))

    def check_field(self, field: Any, **kwargs: Any) -> list[checks.CheckMessage]:
        """Nothing for a pool that cannot be made: a field's column type depends on the server's version."""
        try:
            _ = self.connection.pool
        except ImproperlyConfigured:  # `check` reports it, once and not for every field
            return []
        return list(super().check_field(field, **kwargs))
