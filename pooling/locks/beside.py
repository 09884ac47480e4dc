"""Tasks beside one another inside one hold.

A nested hold inside an open transaction stays until the outer COMMIT, and the outer hold may wait for all tasks that
were started inside it. A task that does not know of such a hold, since another task took it, would wait for the outer
hold's end, which waits for the task. So the outer hold remembers what was left to it, and requests made inside it
count that as their own family's. They pass it but do not share it: each takes the groups by a ticket of its own, so
that tasks that run side by side still exclude each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from ..groups import Plan
from ..store.protocol import Grant, Store
from .held import Held
from .order import check_order, modes_of, remaining


def left_to(holds: tuple[Held, ...]) -> tuple[Held, ...]:
    """What tasks of other contexts have left to these holds."""
    return tuple([left for hold in holds for left in hold._left if left.active and left not in holds])


def check_left(
    plan: Plan, holds: tuple[Held, ...], left: tuple[Held, ...], ranks: Mapping[str, int], view: str
) -> None:
    """LockOrderError unless ``plan`` may be asked for while ``left`` is held besides ``holds``."""
    modes = modes_of((*holds, *left))
    new = remaining(plan, modes, ranks)
    if new.wants and modes:
        check_order(new, modes, ranks, view)


def tickets_of(holds: Iterable[Held]) -> tuple[str, ...]:
    return tuple([hold._ticket for hold in holds if hold._ticket is not None])


class Beside:
    """Who waits inside which holds, to be told when something is left to one of them.

    No mutex: who waits enters himself first and then looks at what was left; who leaves something adds it first and
    then looks who waits. Whichever comes second sees the other.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[tuple[Held, ...], asyncio.AbstractEventLoop, asyncio.Future[None]]] = {}

    def leave(self, held: Held, until: Held) -> None:
        until._left.append(held)
        for holds, loop, told in list(self._waiting.values()):
            if until in holds:
                try:
                    loop.call_soon_threadsafe(_tell, told)
                except RuntimeError:
                    continue  # its loop was closed: nobody waits there any more

    async def wait(
        self, store: Store, ticket: str, family: tuple[str, ...], holds: tuple[Held, ...], timeout: float
    ) -> Grant | None:
        """`Store.wait_async`, but ended early, with None, when something outside ``family`` is left to ``holds``."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = holds, told.get_loop(), told
        try:
            if not set(tickets_of(left_to(holds))) <= set(family):
                return None
            granted = asyncio.ensure_future(store.wait_async(ticket, timeout))
            try:
                await asyncio.wait((granted, told), return_when=asyncio.FIRST_COMPLETED)
                return granted.result() if granted.done() else None
            finally:
                granted.cancel()
        finally:
            del self._waiting[ticket]


def _tell(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
