"""Django's own ``DatabaseValidation``, under the name that it looks up in an ENGINE package."""

from django.db.backends.mysql.validation import DatabaseValidation

__all__ = ["DatabaseValidation"]
