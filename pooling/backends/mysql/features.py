"""Django's own ``DatabaseFeatures``, under the name that it looks up in an ENGINE package."""

from django.db.backends.mysql.features import DatabaseFeatures

__all__ = ["DatabaseFeatures"]
