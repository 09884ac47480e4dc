"""Django's own ``DatabaseValidation``, and whether the pool can be made."""

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
        """What Django finds by asking the server, and pooling.E003 for a pool that cannot be made."""
        issues: list[checks.CheckMessage] = list(super().check(**kwargs))
        try:
            _ = self.connection.pool
        except ImproperlyConfigured as error:
            hint = "Correct it in DATABASES: until then every connection is refused."
            issues.append(checks.Error(str(error), hint=hint, id="pooling.E003"))
        return issues
