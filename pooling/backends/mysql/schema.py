"""Django's own ``DatabaseSchemaEditor``, under the name that it looks up in an ENGINE package."""

from django.db.backends.mysql.schema import DatabaseSchemaEditor

__all__ = ["DatabaseSchemaEditor"]
