"""One request's way through the cache: look, wait for whoever computes the same page, or compute and store it.

With an old page at hand that may be served, nobody waits: who gets the locks at once makes the new page, in his own
request, and the others get the old one. The same goes for a good page that one request renews before its time.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async

from . import conf, containers, frames, moments, steps
from .cache import answers, frame, grace, storable, validators
from .cache.environ import CONTENT_TYPE
from .cache.options import MILLISECOND
from .cache.status import FAILED, NOT_BEGUN
from .cache.tracking import Tracker
from .errors import GroupError, LockTimeout, PoolingError, StoreUnavailable
from .flights import Flight, flights
from .groups import plan, read_epochs
from .searching import AGAIN, Search
from .steps import REFUSED
from .store.protocol import Vector, is_being_written
from .trace import trace_of

logger = logging.getLogger("pooling.cache")

SKIP_SECONDS = 60.0  # how long an answer that could not be stored keeps others from queueing for the next one
FOLLOW_TIMES = 2  # one leader may fail of something of its own (its client left); after two it is the page that fails
FOLLOWED = object()  # instead of an answer: somebody else has computed it


@dataclass
class Outcome:
    """What became of a computed answer."""

    stored: bool = False
    why: str | None = None
    size: int = 0  # bytes of the stored body


def is_failure(response: Any) -> bool:
    return 500 <= getattr(response, "status_code", 0) <= 599


class Pass(Search):
    """One request on its way through the cache."""

    # A hit sets none of these.
    follows = 0
    started = False  # the view was called: what it raises is its own, even a StoreUnavailable
    marked = False
    flight: Flight | None = None  # of this process: this request's own, or another's to wait for
    rode = False

    def follows_others(self) -> bool:
        """Does this request wait for who makes the same page? Not if there was an answer that could not be stored.

        Who still has no page after `FOLLOW_TIMES` makes it beside the others. Following on and on, those who wait for
        a page that fails would run strictly one after another, the last of them into its LockTimeout.
        """
        return self.may_store() and not self.now.skip and self.follows < FOLLOW_TIMES

    def board(self) -> bool:
        """Is another request of this process after the page already? Then `ride`."""
        self.asked = time.monotonic()
        if not self.may_attempt() and (self.rode or not self.follows_others()):
            return False
        self.flight, mine = flights.join(self.resource)
        return not mine

    def ride(self) -> Any:
        """Wait for that one to end: FOLLOWED, or REFUSED without waiting if there is a page to serve meanwhile. AGAIN
        if it takes too long; then the store is asked, which knows who is in the way."""
        flight, self.flight = self.flight, None
        assert flight is not None
        if self.may_attempt():
            return REFUSED
        steps.give_back_connections()
        return self.arrived(flights.wait(flight, self.left()))

    async def ride_async(self) -> Any:
        flight, self.flight = self.flight, None
        assert flight is not None
        if self.may_attempt():
            return REFUSED
        await sync_to_async(steps.give_back_connections, thread_sensitive=True)()
        return self.arrived(await flights.wait_async(flight, self.left()))

    def arrived(self, landed: bool) -> Any:
        self.rode = not landed
        return FOLLOWED if landed else AGAIN

    @contextmanager
    def flying(self) -> Iterator[None]:
        """Around the run of the view: whoever waits for this request is woken at the end, however it ends."""
        try:
            yield
        finally:
            flight, self.flight = self.flight, None
            if flight is not None:
                flights.land(self.resource, flight)

    @contextmanager
    def tracking(self) -> Iterator[None]:
        """What watches the view this time. A page for all is computed whole, whatever this visitor has already."""
        hidden, vary_on = validators.HIDDEN if self.may_store() else (), self.view.options.vary_on
        typed = CONTENT_TYPE in vary_on.items or not self.may_store()
        self.learned = self.now.reads if self.may_store() and self.is_affordable(self.now.reads) else ()
        self.watched = self.epochs + read_epochs(self.learned)
        self.outcome = Outcome()
        self.tracker = Tracker(self.request, hidden=hidden, selection=vary_on.query, typed=typed)
        self.container = containers.Container(self.view.name, self.tracker, self.watched)
        # What is not stored, as a view that another page's view calls, is a part of what contains it.
        with self.tracker, containers.entered(self.container if self.may_store() else containers.current()):
            yield

    def run_arguments(self) -> dict[str, Any]:
        """How to run the view this time. Alone, if the last answer could not be stored or this one will not be."""
        spec = self.view.reading
        left = self.left()
        if self.collapsed and left <= 0:
            raise LockTimeout(
                f"View {self.view.name!r} waited {self.view.patience():.3g} s for others who computed the same "
                f"page, and none of them stored it. Raise wait= or POOLING['LOCK_WAIT'], or see why they fail."
            )
        if self.collapsed or self.rode:
            spec = dataclasses.replace(spec, wait=max(left, 0.0))
        if self.learned:
            # As if the view had declared them: their writers wait, and are waited for.
            spec = dataclasses.replace(spec, reads=(*spec.reads, self.groups_of_fragments))
        given: dict[str, Any] = {"watches": self.watched}
        if self.may_store():
            given["after_commit"] = self.keep
            attempt = given["attempt"] = self.may_attempt()
            if attempt or self.follows_others():
                given["follow"] = self.resource
                given["on_follow"] = lambda: FOLLOWED
        return {"spec": spec, **given}

    def groups_of_fragments(self, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        return self.learned

    def is_affordable(self, groups: tuple[str, ...]) -> bool:
        """May one request read these as well?"""
        try:
            if groups:
                plan((*self.plan.reads, *groups), (), {})
        except GroupError as error:
            containers.warn_once(
                self.view.name, (), "%s is not stored because of the fragments in it: %s", self.view.name, error
            )
            return False
        return True

    def answered(self, response: Any) -> Any:
        """The answer, after what the run of the view came to; AGAIN if it has to be run once more."""
        if response is REFUSED:
            return self.from_spare() if self.may_attempt() else AGAIN
        if response is not FOLLOWED:
            return self.computed(response)
        self.collapsed = True
        self.follows += 1
        waited = time.monotonic() - self.asked
        self.view.tally.waited(waited)
        if moments.listeners:
            moments.tell(moments.PageAwaited(self.view.name, waited))
        self.seek()
        return self.at_once()

    def instead(self, error: Exception) -> Any:
        """The page to serve in place of an error; None if the error must be raised. The error is logged then."""
        spare = self.spare
        if spare is None or isinstance(error, storable.ANSWERS):
            return None
        down = isinstance(error, StoreUnavailable) and not self.started and spare.age() <= self.view.options.stale
        if not (down or self.may_hide_failure()):
            return None
        if self.started:
            self.mark_failed()
        busy = isinstance(error, PoolingError) and not self.started
        logger.log(
            logging.WARNING if busy else logging.ERROR,
            "%s %s, and a page that was made before is served instead: %s: %s",
            self.view.name,
            "could not begin" if busy else "failed",
            type(error).__name__,
            error,
            exc_info=None if busy else error,
            extra=self.fields(error),
        )
        return self.from_spare(f"fwd={self.why}", detail=FAILED if self.started else NOT_BEGUN)

    def fields(self, error: BaseException | None = None) -> dict[str, Any]:
        """For the log. Not the request itself: its words have the query."""
        about = {"view": self.view.name, "trace": trace_of(self.request), "groups": list(self.plan.reads)}
        return about if error is None else {**about, "error": type(error).__name__}

    def may_hide_failure(self) -> bool:
        spare = self.spare
        return spare is not None and (spare.good or spare.age() <= self.view.options.stale_if_error)

    def mark_failed(self) -> None:
        """Note beside the old page that the next one could not be made, so that for a moment nobody tries in vain."""
        spare = self.spare
        if spare is None or spare.good or self.marked or not self.may_store() or not self.may_hide_failure():
            return
        self.marked = True
        page = spare.page._replace(failed=grace.wall())
        ttl = page.created + page.ttl + self.view.options.grace - page.failed
        try:
            with self.tracker.quiet():
                found = self.look().page
            if found is None:  # or else another has made it beside this one
                self.store.put(spare.key, frame.encode(page), ttl, (), ())
        except StoreUnavailable as error:
            logger.warning(
                "%s failed, and others will try as well: %s", self.view.name, error, extra=self.fields(error)
            )

    def looking_again(self) -> Callable[..., Any]:
        """The view, but under the lock it looks once more: between the miss and the grant another may have stored
        the page and gone, and then this one would compute it a second time."""
        func = self.view.func

        @functools.wraps(func)
        def view(*args: Any, **kwargs: Any) -> Any:
            if self.came_meanwhile():
                return FOLLOWED
            with self.making():
                return func(*args, **kwargs)

        return view

    def looking_again_async(self) -> Callable[..., Any]:
        func = self.view.func

        @functools.wraps(func)
        async def view(*args: Any, **kwargs: Any) -> Any:
            if self.came_meanwhile():
                return FOLLOWED
            with self.making():
                return await func(*args, **kwargs)

        return view

    def came_meanwhile(self) -> bool:
        if not self.may_store():
            return False
        self.container.capture(frames.current.get()[-1].held.vector)
        with self.tracker.quiet():  # the cache's own look at the headers that pages vary on
            if self.spare is None or not self.spare.good:
                return self.look().page is not None
            # A good page that is to be renewed is there all the time, and it is in this process's memory as well.
            page = answers.look(self.store, self.base, self.epochs, self.request).page
            if page is None or page == self.spare.page:
                return False
            self.forget_spare()
            return True

    @contextmanager
    def making(self) -> Iterator[None]:
        """Around the view."""
        self.started = True
        self.began = time.monotonic()  # the view
        try:
            with moments.making(self.view.name):
                yield
        except Exception as error:
            # Noted before the unlock: those who wait would try in turn otherwise, and fail in turn.
            if not isinstance(error, storable.ANSWERS):
                self.mark_failed()
            raise

    def keep(self, held: Any, response: Any) -> None:
        """After COMMIT and before the unlock: store the answer, or leave a mark that it cannot be."""
        if response is FOLLOWED:
            return
        mark = self.try_to_store(held.vector[: len(self.epochs)], response)
        if mark is None:
            return
        self.outcome.why = mark.why
        if is_failure(response) and self.may_hide_failure():
            self.mark_failed()
            return  # a mark in its place would take the old page away
        now = self.look()
        if now.page is not None:
            return  # another computed beside this one and could store it: its page is worth more than the mark
        ttl = min(self.view.options.timeout, SKIP_SECONDS)
        self.store.put(now.key, frame.encode(mark), ttl, (), ())

    def try_to_store(self, vector: Vector, response: Any) -> frame.SkipMark | None:
        """Store the answer, under ``vector`` and the epochs of its fragments; or return the mark to leave in its place.
        None as well if there is to be none: the next answer may be stored."""
        outcome = self.outcome
        reads = self.container.undeclared(self.plan.reads)
        why = self.why_not(response)
        if why is None and not self.is_affordable(reads):
            why = f"fragments read {len(reads)} groups, too many"
        if why is not None:
            return frame.SkipMark(why)
        others = self.container.vector(reads)
        if others is None:
            # Under their locks the next answer will be stored. Did this one have some, then they are others each time.
            return frame.SkipMark(f"fragments read {', '.join(reads)}", () if self.learned else reads)
        ttl = min(self.view.options.timeout, self.container.left())
        if ttl < MILLISECOND:
            outcome.why = "the time of a fragment in it was up"
            return None
        names, vector = self.epochs + read_epochs(reads), vector + others
        outcome.stored = self.save(names, vector, response, ttl, reads)
        if outcome.stored:
            outcome.size = len(response.content)
            self.forget_spare()
            return None
        if is_being_written(vector) or self.store.epochs(names) != vector:
            outcome.why = "changed meanwhile"
            return None
        return frame.SkipMark("too large for the store")

    def save(self, epochs: tuple[str, ...], vector: Vector, response: Any, ttl: float, reads: tuple[str, ...]) -> bool:
        vary_on = self.view.options.vary_on
        names = storable.vary_names(response.get("Vary", ""))  # before ours, whose values are in the base key
        if conf.settings().ETAGS:
            validators.add(response, personal=vary_on.personal, vary=vary_on.headers)
        with self.tracker.quiet():
            return answers.save(
                self.store,
                self.base,
                epochs,
                vector,
                self.request,
                response,
                ttl,
                names,
                reads=reads,
                grace=self.view.options.grace,
                cost=time.monotonic() - self.began,
            )

    def why_not(self, response: Any) -> str | None:
        why = storable.why_not(self.method, response)
        if why is not None:
            return why
        size, most = len(response.content), conf.settings().ENTRY_BYTES
        if size > most:
            return f"{size} bytes, above ENTRY_BYTES {most}"
        touched = self.values.uncovered(self.tracker, storable.vary_names(response.get("Vary", "")))
        if touched:
            self.view.warn(touched)
            return f"touched {', '.join(touched)}"
        if self.tracker.session_modified:
            return "session modified"
        return None

    def computed(self, response: Any) -> Any:
        if is_failure(response) and self.may_hide_failure():
            logger.error(
                "%s answered %d, and a page that was made before is served instead.",
                self.view.name,
                response.status_code,
                extra={**self.fields(), "status_code": response.status_code},
            )
            return self.from_spare(f"fwd={self.why}", f"fwd-status={response.status_code}", detail=FAILED)
        outcome = self.outcome
        seconds = time.monotonic() - self.began
        self.view.tally.computed(seconds, outcome.size)
        if moments.listeners:
            moments.tell(moments.PageMade(self.view.name, seconds, outcome.stored))
        if self.may_store():
            response = validators.answer(self.request, response)
        parts = [f"fwd={self.why}"]
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
        if outcome.stored:
            detail = "early" if self.spare is not None and self.spare.good else None
        return answers.status(response, *parts, detail=detail)
