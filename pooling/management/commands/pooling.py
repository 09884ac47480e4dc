"""``manage.py pooling``: who holds and waits for what, and what an operator can do about it."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections

from pooling import conf, fences, runtime
from pooling.breaking import break_lock
from pooling.cache.invalidate import invalidate
from pooling.errors import GroupError, StoreUnavailable
from pooling.groups import Mode
from pooling.management import warm
from pooling.store.protocol import Party

_DAY = 86400.0
_OWNER = ("view", "label", "host", "pid", "thread", "trace")


class Command(BaseCommand):
    help = "Shows and breaks locks, invalidates groups, fills the cache, purges old fences."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parsers = parser.add_subparsers(dest="what", required=True, metavar="locks|break|invalidate|warm|purge")

        def sub(name: str, function: Callable[..., None], text: str) -> ArgumentParser:
            made: ArgumentParser = parsers.add_parser(name, help=text, description=text)
            made.set_defaults(function=function)
            return made

        locks = sub(
            "locks", self.locks, "Holders, then waiters in the order of the queue. Exit code 1 if there are none."
        )
        locks.add_argument("groups", nargs="*", metavar="GROUP", help="only those that have or want one of these")
        locks.add_argument("--json", action="store_true", help="for programs")
        breaking = sub("break", self.break_, "Take a lock from its holder, or a waiter out of the queue.")
        breaking.add_argument("ticket", help="as `manage.py pooling locks` shows it")
        renew = sub("invalidate", self.invalidate, "Make every page that was made from these groups a miss.")
        renew.add_argument("groups", nargs="+", metavar="GROUP")
        warm.add_arguments(sub("warm", self.warm, warm.HELP))
        purging = sub("purge", self.purge, "Delete fences of groups that nobody has written for long.")
        purging.add_argument("--older-than", type=float, default=_DAY, metavar="SECONDS", help="default: a day")
        purging.add_argument("--database", default=DEFAULT_DB_ALIAS, help="alias (default: %(default)s)")

    def handle(self, *args: Any, function: Callable[..., None], **options: Any) -> None:
        try:
            function(**options)
        except (StoreUnavailable, GroupError) as error:
            raise CommandError(str(error)) from error

    # -- what it does

    def locks(self, groups: Sequence[str], json: bool, **options: Any) -> None:
        self._warn_about_memory()
        parties = runtime.store().parties(groups or None)
        self.stdout.write(_as_json(parties) if json else _as_table(parties))
        if not parties:
            raise SystemExit(1)

    def break_(self, ticket: str, **options: Any) -> None:
        self._warn_about_memory()
        party = break_lock(runtime.store(), ticket)
        if party is None:
            raise CommandError(f"Nobody has the ticket {ticket!r}. `manage.py pooling locks` shows those that exist.")
        done = "Taken from" if party.holding else "Taken out of the queue:"
        self.stdout.write(f"{done} {_who(party)}: {_what(party)}")
        if party.holding:
            self.stdout.write(
                "Its view runs on; what it writes is refused at the COMMIT, or by the fence of the next holder."
            )

    def invalidate(self, groups: Sequence[str], **options: Any) -> None:
        self._warn_about_memory()
        invalidate(*groups)
        self.stdout.write(f"Invalidated: {', '.join(groups)}")

    def warm(self, **options: Any) -> None:
        warm.run(self.stdout, self.stderr, **options)

    def purge(self, older_than: float, database: str, **options: Any) -> None:
        if database not in connections.settings:
            raise CommandError(f"DATABASES has no {database!r}. It has {', '.join(map(repr, connections.settings))}.")
        if not older_than >= conf.settings().LOCK_LEASE:
            raise CommandError(
                f"--older-than must be at least POOLING['LOCK_LEASE'], {conf.settings().LOCK_LEASE:g} seconds: the "
                f"fences of younger holders are still needed."
            )
        self.stdout.write(f"{fences.purge(database, older_than)} fences deleted in {database!r}")

    def _warn_about_memory(self) -> None:
        if not runtime.store().shared:
            self.stderr.write(
                "POOLING['CACHE_ALIAS'] names the store in memory: this process sees its own locks and pages only, not "
                "the site's. A django-redis alias is shared."
            )


def _who(party: Party) -> str:
    owner = party.owner
    label = f" ({owner['label']})" if owner.get("label") else ""
    place = f"{owner.get('host', '?')} pid {owner.get('pid', '?')} {owner.get('thread', '?')}"
    trace = f" trace {owner['trace']}" if owner.get("trace") else ""
    return f"{owner.get('view') or 'unnamed code'}{label} on {place}{trace}"


def _what(party: Party) -> str:
    return " ".join(f"{group}:{Mode(mode).name}" for group, mode in party.wants)


def _as_json(parties: Iterable[Party]) -> str:
    return json.dumps(
        [
            {
                "ticket": party.ticket,
                "state": "holds" if party.holding else "waits",
                "seconds": round(party.seconds, 3),
                "groups": {group: Mode(mode).name for group, mode in party.wants},
                **{key: party.owner.get(key, "") for key in _OWNER},
            }
            for party in parties
        ],
        indent=2,
    )


def _as_table(parties: Sequence[Party]) -> str:
    if not parties:
        return "Nobody holds or waits for anything."
    rows = [("", "seconds", "ticket", "who", "groups")]
    rows += [
        ("holds" if one.holding else "waits", f"{one.seconds:.1f}", one.ticket, _who(one), _what(one))
        for one in parties
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]) for row in rows
    )
