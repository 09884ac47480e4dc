"""Django's own ``DatabaseOperations``, under the name that it looks up in an ENGINE package."""

from django.db.backends.mysql.operations import DatabaseOperations

__all__ = ["DatabaseOperations"]
