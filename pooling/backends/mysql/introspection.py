"""Django's own ``DatabaseIntrospection``, under the name that it looks up in an ENGINE package."""

from django.db.backends.mysql.introspection import DatabaseIntrospection

__all__ = ["DatabaseIntrospection"]
