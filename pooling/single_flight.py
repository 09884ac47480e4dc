"""One request's way through the cache: look, wait for whoever computes the same page, or compute and store it."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asgiref.sync import AsyncToSync, sync_to_async

from . import conf, frames, runtime, steps
from .cache import answers, frame, keys, storable, validators, vary
from .cache.answers import Looked
from .cache.tracking import Tracker
from .errors import LockTimeout
from .groups import read_epochs

if TYPE_CHECKING:
    from .caching import View

SKIP_SECONDS = 60.0  # how long an answer that could not be stored keeps others from queueing for the next one
FOLLOW_TIMES = 2  # one leader may fail of something of its own (its client left); after two it is the page that fails
FOLLOWED = object()  # instead of an answer: somebody else has computed it


@dataclass
class Outcome:
    """What became of a computed answer."""

    stored: bool = False
    why: str | None = None


class Pass:
    """One request on its way through the cache: what is decided without waiting for anything."""

    def __init__(self, view: View, request: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.view = view
        self.request = request
        self.args = args
        self.kwargs = kwargs
        self.method = request.method
        self.bypass = view.bypass(request)
        self.outcome = Outcome()
        self.values = vary.Values()
        self.collapsed = False
        self.follows = 0
        self.started = False  # the view was called: what it raises is its own, even a StoreUnavailable

    def open(self, values: vary.Values) -> None:
        """Find out keys and epochs. Callables among the reads may look at the request, so this may touch it."""
        view = self.view
        self.values = values
        self.deadline = time.monotonic() + view.patience()
        self.plan = view.reading.plan(view.func, self.request, self.args, self.kwargs)
        self.epochs = read_epochs(self.plan.reads)
        self.groupless = not self.plan.reads
        self.unkeyed: str | None = None
        try:
            self.base = view.key_of(self.request, self.args, self.kwargs, values)
        except keys.NoKey as error:
            self.base, self.unkeyed = "", str(error)
        self.store = view.store()
        self.nested = bool(runtime.manager().current())
        self.etags = conf.settings().ETAGS

    def first_look(self) -> Looked:
        """Look into the store; LockOrderError inside a transaction in which a miss could not take its locks. Were it
        not the same for hits, the view would fail only now and then."""
        view = self.view
        call = steps.Call(
            view.reading, view.func, (self.request, *self.args), self.kwargs, declined=view.taken_over.is_declined
        )
        steps.check_transactions(call, self.plan)
        self.looked = self.look()
        return self.looked

    async def first_look_async(self) -> Looked:
        # Transactions are open in the database's thread. To go there costs more than a hit, so not without a cause:
        # one that this code did not open itself, in a hold, can only be that of a sync caller.
        called_from_sync = (
            getattr(AsyncToSync.executors, "current", None) is not None
            or asyncio.get_running_loop() in AsyncToSync.loop_thread_executors
        )
        if frames.in_hold() or called_from_sync:
            return await sync_to_async(self.first_look, thread_sensitive=True)()
        return self.first_look()

    def may_store(self) -> bool:
        return self.method == "GET" and not (self.nested or self.groupless or self.unkeyed)

    def look(self) -> Looked:
        if self.groupless or self.unkeyed:
            return Looked(self.base)  # nobody could ever invalidate it, or tell it from others
        return answers.look(self.store, self.base, self.epochs, self.request)

    def hit(self, looked: Looked) -> Any:
        page = looked.page
        assert page is not None
        response = answers.answer(page, self.method)
        if self.nested:
            validators.withdraw(response)
        else:
            response = validators.answer(self.request, response)
        response.headers["Age"] = answers.age(page)
        if self.collapsed:
            return answers.status(response, f"fwd={self.looked.why}", "collapsed")
        return answers.status(response, "hit", f"ttl={answers.remaining(page)}")

    def tracking(self) -> Tracker:
        """What watches the view this time. A page for all is computed whole, whatever this visitor has already."""
        hidden = validators.HIDDEN if self.may_store() else ()
        self.tracker = Tracker(self.request, hidden=hidden, selection=self.view.options.vary_on.query)
        return self.tracker

    def run_arguments(self, tracker: Tracker, *, skip: bool) -> dict[str, Any]:
        """How to run the view this time. Alone, if the last answer could not be stored or this one will not be."""
        spec = self.view.reading
        left = self.deadline - time.monotonic()
        if self.collapsed:
            if left <= 0:
                raise LockTimeout(
                    f"View {self.view.name!r} waited {self.view.patience():.3g} s for others who computed the same "
                    f"page, and none of them stored it. Raise wait= or POOLING['LOCK_WAIT'], or see why they fail."
                )
            spec = dataclasses.replace(spec, wait=left)
        given: dict[str, Any] = {"watches": self.epochs}
        if self.may_store():
            given["after_commit"] = functools.partial(self.keep, tracker)
            # Who still has no page after that computes beside the others. Following on and on, those who wait for a
            # page that fails would run strictly one after another, the last of them into its LockTimeout.
            if not skip and self.follows < FOLLOW_TIMES:
                # '//' stands in no group, so nothing that anybody can declare or send is taken for an entry.
                given["follow"] = "//" + self.looked.key
                given["on_follow"] = lambda: FOLLOWED
        return {"spec": spec, **given}

    def followed(self) -> Looked:
        """After waiting for another's computation: is the page there now?"""
        self.collapsed = True
        self.follows += 1
        return self.look()

    def looking_again(self) -> Callable[..., Any]:
        """The view, but under the lock it looks once more: between the miss and the grant another may have stored
        the page and gone, and then this one would compute it a second time."""
        func = self.view.func

        @functools.wraps(func)
        def view(*args: Any, **kwargs: Any) -> Any:
            if self.came_meanwhile():
                return FOLLOWED
            self.started = True
            return func(*args, **kwargs)

        return view

    def looking_again_async(self) -> Callable[..., Any]:
        func = self.view.func

        @functools.wraps(func)
        async def view(*args: Any, **kwargs: Any) -> Any:
            if self.came_meanwhile():
                return FOLLOWED
            self.started = True
            return await func(*args, **kwargs)

        return view

    def came_meanwhile(self) -> bool:
        if not self.may_store():
            return False
        with self.tracker.quiet():  # the cache's own look at the headers that pages vary on
            return self.look().page is not None

    def keep(self, tracker: Tracker, held: Any, response: Any) -> None:
        """After COMMIT and before the unlock: store the answer, or leave a mark that it cannot be."""
        if response is FOLLOWED:
            return
        outcome = self.outcome
        outcome.why = why = self.why_not(tracker, response)
        if why is None:
            outcome.stored = self.save(tracker, held, response)
            if outcome.stored:
                return
            if self.store.epochs(self.epochs) != held.vector:
                outcome.why = "changed meanwhile"
                return  # the next one may well be stored
            outcome.why = why = "too large for the store"
        now = self.look()
        if now.page is not None:
            return  # another computed beside this one and could store it: its page is worth more than the mark
        ttl = min(self.view.options.timeout, SKIP_SECONDS)
        self.store.put(now.key, frame.encode(frame.SkipMark(why)), ttl, (), ())

    def save(self, tracker: Tracker, held: Any, response: Any) -> bool:
        vary_on = self.view.options.vary_on
        names = storable.vary_names(response.get("Vary", ""))  # before ours, whose values are in the base key
        if self.etags:
            validators.add(response, personal=vary_on.personal, vary=vary_on.headers)
        with tracker.quiet():
            return answers.save(
                self.store,
                self.base,
                self.epochs,
                held.vector,
                self.request,
                response,
                self.view.options.timeout,
                names,
            )

    def why_not(self, tracker: Tracker, response: Any) -> str | None:
        why = storable.why_not(self.method, response)
        if why is not None:
            return why
        size, most = len(response.content), conf.settings().ENTRY_BYTES
        if size > most:
            return f"{size} bytes, above ENTRY_BYTES {most}"
        touched = self.values.uncovered(tracker, storable.vary_names(response.get("Vary", "")))
        if touched:
            self.view.warn(touched)
            return f"touched {', '.join(touched)}"
        if tracker.session_modified:
            return "session modified"
        return None

    def computed(self, response: Any) -> Any:
        outcome = self.outcome
        if self.may_store():
            response = validators.answer(self.request, response)
        parts = [f"fwd={self.looked.why}"]
        if outcome.stored:
            parts.append("stored")
        detail = outcome.why
        if not outcome.stored and detail is None:
            detail = (
                "reads name no group"
                if self.groupless
                else self.unkeyed
                if self.unkeyed
                else "inside a lock or transaction"
                if self.nested
                else f"method {self.method}"
            )
        return answers.status(response, *parts, detail=None if outcome.stored else detail)
