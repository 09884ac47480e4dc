"""What becomes of a computed answer: it is stored, or a mark is left that it could not be.

It is stored under the epochs of the view's own groups, captured at the grant, and under those of the fragments in it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import conf, containers
from .cache import answers, frame, grace, storable, validators
from .cache.environ import CONTENT_TYPE
from .cache.options import MILLISECOND
from .cache.tracking import Tracker
from .errors import GroupError, LockOrderError, StoreUnavailable
from .groups import plan, read_epochs
from .searching import Search
from .store.protocol import Vector, is_being_written
from .trace import trace_of

logger = logging.getLogger("pooling.cache")

SKIP_SECONDS = 60.0  # how long an answer that could not be stored keeps others from queueing for the next one
NAMED = 5  # groups in the detail of a header, which proxies do not let grow without end
FOLLOWED = object()  # instead of an answer: somebody else has computed it


@dataclass
class Outcome:
    """What became of a computed answer."""

    stored: bool = False
    why: str | None = None
    size: int = 0  # bytes of the stored body


def is_failure(response: Any) -> bool:
    return 500 <= getattr(response, "status_code", 0) <= 599


class Keeping(Search):
    """One request that may make the page. Whoever calls the view sets ``began``, and runs it in `tracking`."""

    began: float  # when the view was called, monotonic seconds
    started = False  # the view was called: what it raises is its own, even a StoreUnavailable
    marked = False  # it is noted beside the old page that this one failed

    @contextmanager
    def tracking(self) -> Iterator[None]:
        """What watches the view this time. A page for all is computed whole, whatever this visitor has already."""
        hidden, vary_on = validators.HIDDEN if self.may_store() else (), self.view.options.vary_on
        typed = CONTENT_TYPE in vary_on.items or not self.may_store()
        learns = self.view.learns and self.may_store() and self.is_affordable(self.now.reads)
        self.learned = self.now.reads if learns else ()
        self.watched = self.epochs + read_epochs(self.learned)
        self.outcome = Outcome()
        self.tracker = Tracker(self.request, hidden=hidden, selection=vary_on.query, typed=typed)
        self.container = containers.Container(self.tracker, self.watched)
        # What is not stored, as a view that another page's view calls, is a part of what contains it.
        with self.tracker, containers.entered(self.container if self.may_store() else containers.current()):
            yield

    def groups_of_fragments(self, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        return self.learned

    def is_of_learned(self, error: Exception) -> bool:
        """Would the view perhaps not have failed without the groups of its fragments?"""
        return isinstance(error, LockOrderError) and bool(self.learned)

    def unlearn(self, error: LockOrderError) -> bool:
        """Do without them from now on, for the view takes locks inside that come before them. False: there are none."""
        if not self.is_of_learned(error):
            return False
        self.view.learns = self.started = False
        containers.warn_once(
            self.view.name,
            self.learned,
            "%s is made without the locks of the fragments in it from now on, so it is stored only if it is known "
            "which versions these were made under: %s",
            self.view.name,
            error,
        )
        return True

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
            # Under their locks the next answer will be stored. Did this one have some, then they are others each time;
            # and a view that does not get on with them goes without.
            shown = ", ".join(reads[:NAMED]) + (f" and {len(reads) - NAMED} more" if len(reads) > NAMED else "")
            return frame.SkipMark(f"fragments read {shown}", () if self.learned or not self.view.learns else reads)
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
