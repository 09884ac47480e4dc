"""The pool's options, validated when they are made. Names and meanings are psycopg_pool's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from .._names import nearest
from .._numbers import seconds


def _whole(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"Pool option {name!r} must be a whole number, not {value!r}.")
    if value < least:
        raise ValueError(f"Pool option {name!r} must be at least {least}, not {value!r}.")
    return value


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Sizes in connections, times in seconds. Any fault raises ValueError and says what to change.

    ``min_size``           connections kept open even when nobody needs them; 0 opens none before the first use.
    ``max_size``           at most so many are open or being opened at any time. "auto": this process's share of what
                           the server allows; it changes as processes come and go, and ``min_size`` yields to it.
    ``timeout``            how long a checkout waits before it raises PoolTimeout; also the limit for one connect.
    ``max_waiting``        at most so many checkouts wait, further ones raise PoolFull; 0 is no bound.
    ``max_lifetime``       a connection is replaced after this time, less up to 5 % so that not all go at once.
    ``max_idle``           an unused connection beyond ``min_size`` is closed after this time.
    ``reconnect_timeout``  the pool stops refilling ``min_size`` by itself when the server was down for this long;
                           the next checkout starts it again.
    ``leak_after``         a connection held for longer is reported once on the logger ``pooling.pool``, with the thread
                           and the stack of the call that took it; None reports nothing. It costs a few µs a checkout.
    ``keepalive``          an idle connection is pinged in the background each time this has passed, so that neither the
                           server nor a firewall drops it; a dead one is closed, and replaced as far as ``min_size`` or
                           a waiter wants it; None pings none.
    ``reserve``            with ``max_size`` "auto": so many of the server's connections are left to others.
    ``budget_dir``         with ``max_size`` "auto": a folder where the processes of this host find each other; None is
                           one for each user of the host.
    """

    min_size: int = 0
    max_size: int | Literal["auto"] = 10
    timeout: float = 30.0
    max_waiting: int = 0
    max_lifetime: float = 3600.0
    max_idle: float = 600.0
    reconnect_timeout: float = 300.0
    leak_after: float | None = None
    keepalive: float | None = None
    reserve: int = 10
    budget_dir: str | None = None

    def __post_init__(self) -> None:
        _whole("min_size", self.min_size, 0)
        if self.max_size != "auto":
            if isinstance(self.max_size, str):
                raise ValueError(f"Pool option 'max_size' must be a whole number or \"auto\", not {self.max_size!r}.")
            _whole("max_size", self.max_size, 1)
        _whole("max_waiting", self.max_waiting, 0)
        _whole("reserve", self.reserve, 0)
        if self.budget_dir is not None and not (isinstance(self.budget_dir, str) and self.budget_dir):
            raise ValueError(f"Pool option 'budget_dir' must be the path of a folder or None, not {self.budget_dir!r}.")
        if self.max_size != "auto" and self.max_size < self.min_size:
            raise ValueError(
                f"Pool option 'max_size' ({self.max_size}) is smaller than 'min_size' ({self.min_size}). "
                f"Raise the one or lower the other."
            )
        for name in ("timeout", "max_lifetime", "max_idle", "reconnect_timeout"):
            object.__setattr__(self, name, seconds(f"Pool option {name!r}", getattr(self, name)))

        if self.max_size != "auto" and self.budget_dir is not None:
            raise ValueError(
                "Pool option 'budget_dir' has an effect only with 'max_size': \"auto\". Set that, or leave it out."
            )
        for name in ("leak_after", "keepalive"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, seconds(f"Pool option {name!r}", getattr(self, name)))

    @classmethod
    def parse(cls, value: Literal[True] | Mapping[str, Any]) -> Self:
        """Options from ``True`` (all defaults) or a mapping. ValueError; an unknown name is told the nearest known."""
        if value is True:
            return cls()
        if not isinstance(value, Mapping):
            raise ValueError(f"Pool options must be True or a dict such as {{'max_size': 10}}, not {value!r}.")
        known = [field.name for field in dataclasses.fields(cls)]
        for name in value:
            if name not in known:
                raise ValueError(f"There is no pool option {name!r}. {nearest(name, known)}")
        return cls(**value)
