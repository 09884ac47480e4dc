"""Credentials that are asked for before each connect, for passwords that rotate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.utils.module_loading import import_string

from pooling._names import nearest

_KEYS = ("user", "password")


class Credentials:
    """``OPTIONS["pool"]["credentials"]``: a function without arguments, or the dotted path of one.

    It returns the password, or a dict with ``"user"`` and ``"password"`` or one of them; what is not in it stays as the
    settings have it. It is called in whatever thread connects or makes a session clean, in several at once, and under
    no lock; so it keeps what it fetched for as long as that holds, and gives its own requests a time limit.

    Raises ValueError when it is made, for what cannot be called, and for a path that leads to nothing.
    """

    def __init__(self, source: str | Callable[[], Any]) -> None:
        self.name = source if isinstance(source, str) else getattr(source, "__qualname__", repr(source))
        found: Any = source
        if isinstance(source, str):
            try:
                found = import_string(source)
            except ImportError as error:
                raise ValueError(f"Pool option 'credentials': {source!r} cannot be imported: {error}") from error
        if not callable(found):
            raise ValueError(
                f"Pool option 'credentials' must be a function without arguments, or the dotted path of one, "
                f"not {source!r}{f', which is {found!r}' if found is not source else ''}."
            )
        self._function = found

    def __call__(self) -> dict[str, str]:
        """The credentials of now, as keyword arguments of a connect.

        Raises OperationalError when the function fails, and ImproperlyConfigured for an answer that is none.
        """
        try:
            answer = self._function()
        except Exception as error:
            raise OperationalError(
                f"The database's credentials cannot be had: {self.name} raised {type(error).__name__}: {error}"
            ) from error
        if isinstance(answer, str):
            return {"password": answer}
        # Never the answer itself in these messages: they end up in logs.
        if not isinstance(answer, Mapping) or not answer:
            raise ImproperlyConfigured(
                f"The pool's credentials function {self.name} must return a password or a dict with 'user' and "
                f"'password', not {f'an empty {type(answer).__name__}' if answer == {} else type(answer).__name__}."
            )
        for key, value in answer.items():
            if key not in _KEYS:
                raise ImproperlyConfigured(
                    f"The pool's credentials function {self.name} returned {key!r}. {nearest(key, _KEYS)}"
                )
            if not isinstance(value, str):
                raise ImproperlyConfigured(
                    f"The pool's credentials function {self.name} returned a {type(value).__name__} for {key!r}. "
                    f"It must be a string."
                )
        return dict(answer)
