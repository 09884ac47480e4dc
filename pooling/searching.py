"""Looking for a page in the cache: the one that counts, or an old one that may be served instead.

Nothing here waits for another request, or calls the view: see `pooling.single_flight`, which goes on from here.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

from asgiref.sync import AsyncToSync, sync_to_async

from . import conf, containers, frames, runtime, steps
from .cache import answers, frame, grace, near, validators, vary
from .cache.answers import Looked
from .cache.status import FAILED

if TYPE_CHECKING:
    from .caching import View

AGAIN = object()  # instead of an answer: there is none yet (None is one that a faulty view may give)


class Search:
    """One request that looks for its page."""

    # A hit sets none of these.
    collapsed = False  # another request has made it meanwhile
    why = "uri-miss"
    spare: grace.Spare | None = None  # a page that can be served instead of waiting for a new one

    def __init__(self, view: View, request: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.view = view
        self.request = request
        self.args = args
        self.kwargs = kwargs
        self.method = request.method
        self.asked_at = time.monotonic()

    def open(self, values: vary.Values) -> None:
        """Find out keys and epochs. Callables among the reads may look at the request, so this may touch it."""
        view = self.view
        self.values = values
        address = view.addresses.of(self.request, self.args, self.kwargs, values)
        self.base, self.unkeyed, self.plan, self.epochs = address
        self.groupless = not self.plan.reads
        self.store = view.store()
        self.nested = bool(runtime.manager().current())

    def first_look(self) -> Any:
        """Look into the store; the answer, AGAIN if there is none yet. LockOrderError inside a transaction in which a
        miss could not take its locks: were it not the same for hits, the view would fail only now and then."""
        view = self.view
        if not steps.nothing_is_open():
            declined = view.taken_over.is_declined
            call = steps.Call(view.reading, view.func, (self.request, *self.args), self.kwargs, declined=declined)
            steps.check_transactions(call, self.plan)
        # Not in a hold: what that one renewed when it was granted may not have been told yet.
        looked = self.seek(pushed=view.options.level == "near" and not self.nested)
        # '//' stands in no group, so nothing that anybody can declare or send is taken for an entry.
        self.resource = "//" + looked.key
        self.why = "stale" if looked.page is not None else looked.why
        return self.at_once()

    async def first_look_async(self) -> Any:
        # Transactions are open in the database's thread. To go there costs more than a hit, so not without a cause:
        # one that this code did not open itself, in a hold, can only be that of a sync caller.
        called_from_sync = (
            getattr(AsyncToSync.executors, "current", None) is not None
            or asyncio.get_running_loop() in AsyncToSync.loop_thread_executors
        )
        if frames.in_hold() or called_from_sync:
            return await sync_to_async(self.first_look, thread_sensitive=True)()
        return self.first_look()

    def left(self) -> float:
        """Seconds for which it may still wait; none are left below zero."""
        return self.asked_at + self.view.patience() - time.monotonic()

    def may_store(self) -> bool:
        return self.method == "GET" and not (self.nested or self.groupless or self.unkeyed)

    def look(self, *, pushed: bool = False) -> Looked:
        if self.groupless or self.unkeyed:
            return Looked(self.base)  # nobody could ever invalidate it, or tell it from others
        if self.view.options.level == "remote":
            return answers.look(self.store, self.base, self.epochs, self.request)
        return near.look(runtime.bodies(), self.store, self.base, self.epochs, self.request, pushed=pushed)

    def seek(self, *, pushed: bool = False) -> Looked:
        """Look, and see what could be served besides a page that counts."""
        options = self.view.options
        asked = grace.monotonic()
        self.now = looked = self.look(pushed=pushed)
        self.spare = None
        page = looked.page
        if page is not None:
            if options.grace:
                # What the server tells unasked may be as old as the heartbeat allows.
                late = conf.settings().NEAR_HEARTBEAT if pushed else 0.0
                grace.sightings.note(looked.key, page.vector, asked - late)
            if not self.collapsed and self.may_store() and grace.is_due(page):
                self.spare = grace.Spare(looked.key, page)
        elif looked.old is not None and options.grace and not self.nested:
            # Not inside a hold: that one may have written what the page was made from.
            self.spare = grace.old(looked.key, looked.old, looked.current, asked)
        return looked

    def at_once(self) -> Any:
        """The answer, if no view need run for it; else AGAIN."""
        spare, options = self.spare, self.view.options
        if spare is None:
            return AGAIN if self.now.page is None else self.hit(self.now.page)
        if spare.good:
            return AGAIN
        if spare.failed_lately() and spare.age() <= options.stale_if_error:
            return self.from_spare(detail=FAILED)
        if not self.may_store() and spare.age() <= options.stale:
            return self.from_spare()  # what it made would be of no use to others
        return AGAIN

    def forget_spare(self) -> None:
        """There is a newer page in the store than the good one in this process's memory."""
        if self.spare is not None:
            runtime.bodies().drop(self.spare.key, self.spare.page)

    def tell_container(self, page: frame.Page) -> None:
        """What calls this view has the page and its fragments in it."""
        around = containers.current()
        if around is not None:
            ends, own = page.created + page.ttl, len(self.epochs)
            known = page is self.now.page  # or it is an old one, maybe of a release whose view read other groups
            around.contain(self.plan.reads, ends, page.vector[:own] if known else None)
            around.contain(page.reads, ends, page.vector[own:] if known else None)

    def response_of(self, page: frame.Page, *parts: str, detail: str | None = None) -> Any:
        """The page as an answer to this request; its Cache-Status says ``parts`` and ``detail``."""
        self.tell_container(page)
        whole = answers.answer(page, self.method, *parts, detail=detail)
        if self.nested:
            validators.withdraw(whole)
            return whole
        response = validators.answer(self.request, whole)
        if response is not whole:
            response.headers["Age"] = whole.headers["Age"]
            answers.status(response, *parts, detail=detail)
        return response

    def hit(self, page: frame.Page) -> Any:
        if self.collapsed:
            return self.response_of(page, f"fwd={self.why}", "collapsed")
        return self.response_of(page, "hit", f"ttl={answers.remaining(page)}")

    def from_spare(self, *parts: str, detail: str | None = None) -> Any:
        spare = self.spare
        assert spare is not None
        if spare.good:
            ttl = answers.remaining(spare.page)
        else:
            ttl = -max(1, math.ceil(spare.age()))
            detail = detail or ("written" if spare.written else "expired")
        return self.response_of(spare.page, *(parts or ("hit", f"ttl={ttl}")), detail=detail)

    def may_attempt(self) -> bool:
        """Is there a page that is served if somebody else is making the new one?"""
        spare = self.spare
        return spare is not None and self.may_store() and (spare.good or spare.age() <= self.view.options.stale)
