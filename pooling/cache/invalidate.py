"""`invalidate`: from anywhere, tied to the commit."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from django.db import connections, transaction

from .. import conf, frames, runtime
from ..errors import GroupError
from ..groups import validate, write_epochs


def invalidate(*groups: str, using: str | Iterable[str] | None = None) -> None:
    """Make every page that was made from these groups, or from anything below them, a miss.

    In a transaction it happens after the COMMIT, and not at all after a rollback; otherwise at once. ``using``: the
    alias or aliases whose transaction counts; None means every one that is open, and then each of their commits
    renews. GroupError for a malformed group, StoreUnavailable if the store cannot be reached.
    """
    for group in groups:
        if isinstance(group, Iterable) and not isinstance(group, (str, bytes)):
            raise GroupError(f"invalidate() takes groups one by one, not {group!r}. Write invalidate(*groups).")
        validate(group)
    if using is not None and not isinstance(using, str):
        using = list(using) if isinstance(using, Iterable) else [using]
        if not all(isinstance(alias, str) for alias in using):
            raise TypeError(f"invalidate(using=…) must be a database alias or a list of them, not {using!r}.")
    if not groups:
        raise TypeError("invalidate() needs at least one group, for instance invalidate('catalog/books').")
    if not conf.settings().ENABLED:
        return
    epochs = write_epochs(groups)
    names = [using] if isinstance(using, str) else None if using is None else list(using)
    opened = (
        [connection.alias for connection in connections.all(initialized_only=True)]
        if names is None
        else [connections[name].alias for name in names]
    )
    waiting = [alias for alias in opened if connections[alias].in_atomic_block]
    renew = functools.partial(_renew, epochs)
    for alias in waiting:
        transaction.on_commit(renew, using=alias)
    # In async code the transaction of a hold is open in the database's thread, not here.
    if not frames.at_commit(renew, names) and not waiting:
        renew()


def _renew(epochs: tuple[str, ...]) -> None:
    runtime.store().invalidate(epochs)
