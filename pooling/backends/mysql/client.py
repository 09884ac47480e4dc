"""Django's own ``DatabaseClient``, under the name that it looks up in an ENGINE package."""

from django.db.backends.mysql.client import DatabaseClient

__all__ = ["DatabaseClient"]
