"""The active language and time zone, where the project uses them: always part of a key, as in cache_page.

On a site of one language and one time zone nothing ever activates either. Django finds that out anew each time, by way
of two exceptions in asgiref's `Local`: 6 of the 19 µs that a hit of a page in memory would take. So whether anything
was set in this context at all is asked of the context variable beneath. Where asgiref keeps things in another way, and
there are versions that do, Django is asked.
"""

from __future__ import annotations

import contextvars
from functools import cache
from typing import Any

from asgiref.local import Local
from django.conf import settings
from django.core.signals import setting_changed
from django.utils import timezone, translation
from django.utils.translation import trans_real


def locale() -> tuple[str | None, str | None]:
    """Language and time zone by name; None for what the project does not use."""
    language, zone = _defaults()
    # Each time anew: Django puts another in its place when a setting changes in tests, or a file of translations under
    # the development server.
    if language is not None and _may_be_set(trans_real._active):  # type: ignore[attr-defined]
        language = translation.get_language()
    if zone is not None and _may_be_set(timezone._active):  # type: ignore[attr-defined]
        zone = timezone.get_current_timezone_name()
    return language, zone


@cache  # to look at Django's settings takes 0.3 µs each time, and at these every request looks
def _defaults() -> tuple[str | None, str | None]:
    """What counts where nothing was activated; None for what the project does not use."""
    return (
        settings.LANGUAGE_CODE if settings.USE_I18N else None,
        timezone.get_default_timezone_name() if settings.USE_TZ else None,
    )


def _variable(local: Any) -> contextvars.ContextVar[Any] | None:
    """The context variable that has all that was set on ``local`` in this context, and no value until something was.
    None if asgiref keeps it in another way."""
    found = getattr(getattr(local, "_storage", None), "_data", None)
    return found if isinstance(found, contextvars.ContextVar) else None


def _is_as_expected() -> bool:
    """Does asgiref's `Local` do what `_variable` says?"""
    local = Local()
    variable = _variable(local)
    if variable is None or variable.get(None) is not None:
        return False

    def tells() -> bool:
        local.value = 1
        return variable.get(None) is not None

    return contextvars.copy_context().run(tells)


_kind = type(Local()) if _is_as_expected() else None  # `Local` itself may be but what makes them


def _may_be_set(local: Any) -> bool:
    return type(local) is not _kind or local._storage._data.get(None) is not None


def _forget(**kwargs: Any) -> None:
    """Tests change settings in a running process."""
    _defaults.cache_clear()


setting_changed.connect(_forget)
