"""Breaking a lock by hand, so that its holder can tell that from a loss.

The store knows of a ticket that it is held or not. Whoever breaks one leaves a document beside it that says so; the
holder looks for it once it has found out that it holds no longer.
"""

from __future__ import annotations

import getpass
import logging
import socket

from .locks.report import declared, place, who
from .store.protocol import Party, Store

logger = logging.getLogger("pooling.operate")

REMEMBERED = 3600.0  # seconds; a holder notices within a third of its lease


def break_lock(store: Store, ticket: str, by: str = "") -> Party | None:
    """Take a lock from its holder; who had it, None if nobody. StoreUnavailable.

    A waiter is returned and left alone: it has no lock yet, and taken out of the queue it would ask again. ``by``: who
    does it, in words, also for the log; by default the user of this process. Of two at the same time one gets None.
    """
    by = by or myself()
    for party in store.parties():
        if party.ticket == ticket:
            if not party.holding:
                return party
            # Before the release: the holder may find out at once.
            key = _key(ticket)
            store.swap(key, store.load(key)[0], by.encode("utf-8", "replace"), REMEMBERED)
            # Not held any more: it was given back, or another operator was faster.
            if not store.release(ticket):
                return None
            groups = declared(party.wants)
            logger.warning(
                "%r broke the lock of %r (%s), ticket %r: %s",
                *(by, who(party.owner), place(party.owner), ticket, ", ".join(groups)),
                extra={"ticket": ticket, "view": party.owner.get("view", ""), "groups": groups},
            )
            return party
    return None


def broken_by(store: Store, ticket: str) -> str:
    """Who broke it, "" if nobody did. StoreUnavailable."""
    return store.load(_key(ticket))[0].decode("utf-8", "replace")


def _key(ticket: str) -> str:
    return f"broken:{ticket}"


def myself() -> str:
    """Whose process this is, and where: for those who read who has done something by hand."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
