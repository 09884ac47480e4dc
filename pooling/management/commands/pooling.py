"""``manage.py pooling``: who holds and waits for what, and what an operator can do about it."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.core.management.color import no_style
from django.db import DEFAULT_DB_ALIAS, connections

from pooling import _numbers, conf, fences, runtime
from pooling.breaking import break_lock, myself
from pooling.cache.invalidate import invalidate
from pooling.errors import GroupError, StoreUnavailable
from pooling.groups import validate
from pooling.locks.report import place, who
from pooling.management import tables, warm
from pooling.status import fleet, here, verdict
from pooling.status.fleet import Fleet

logger = logging.getLogger("pooling.operate")

_DAY = 86400.0
_WATCH = 2.0  # seconds between two looks
_WELL, _PROBLEMS, _CANNOT_TELL = 0, 1, 2
_EXIT = {verdict.WELL: _WELL, verdict.PROBLEMS: _PROBLEMS, verdict.UNKNOWN: _CANNOT_TELL}
_PIPE = 128 + 13  # as of a process that SIGPIPE has ended
_CODES = "Exit code 0: all is well; 1: there are problems; 2: it cannot be told."


class Command(BaseCommand):
    help = "Shows processes, pools, locks and cached views; breaks locks, invalidates groups, fills the cache, purges."

    def add_arguments(self, parser: ArgumentParser) -> None:
        names = "status|stats|locks|break|invalidate|warm|purge"
        parsers = parser.add_subparsers(dest="what", required=True, metavar=names)

        def sub(name: str, function: Callable[..., None], text: str) -> ArgumentParser:
            made: ArgumentParser = parsers.add_parser(name, help=text, description=text)
            made.set_defaults(function=function)
            _add_common(made)
            return made

        status = sub("status", self.status, f"Processes, pools, who has connections and groups, and problems. {_CODES}")
        stats = sub(
            "stats",
            self.stats,
            "How long groups were waited for and held, and what cached views saved. Exit code 2: as status.",
        )
        stats.add_argument("--top", type=_number, default=20, metavar="N", help="lines of each table (default: 20)")
        stats.add_argument("--sort", choices=sorted(tables.SORTS), default="waited", help="of groups (default: waited)")
        locks = sub(
            "locks",
            self.locks,
            "Holders, then waiters in the order of the queue. Exit code 1: there are none; 2: it cannot be told.",
        )
        locks.add_argument(
            "groups", nargs="*", metavar="GROUP", help="only those that are in the way of a write of these"
        )
        for one in (status, stats, locks):
            one.add_argument("--json", action="store_true", help="for programs; with --watch a line for each look")
            one.add_argument(
                "--watch",
                nargs="?",
                type=_seconds,
                const=_WATCH,
                metavar="SECONDS",
                help="look again and again (default: every 2), until Ctrl-C",
            )
        breaking = sub("break", self.break_, "Take a lock from its holder.")
        breaking.add_argument("ticket", help="as `manage.py pooling locks` shows it")
        renew = sub("invalidate", self.invalidate, "Make every page that was made from these groups a miss.")
        renew.add_argument("groups", nargs="+", metavar="GROUP")
        warm.add_arguments(sub("warm", self.warm, warm.HELP))
        purging = sub("purge", self.purge, "Delete fences of groups that nobody has written for long.")
        purging.add_argument("--older-than", type=float, default=_DAY, metavar="SECONDS", help="default: a day")
        purging.add_argument("--database", default=DEFAULT_DB_ALIAS, help="alias (default: %(default)s)")

    def handle(self, *args: Any, function: Callable[..., None], **options: Any) -> None:
        self._coloured = bool(options.get("force_color"))
        try:
            function(**options)
        except StoreUnavailable as error:
            raise CommandError(str(error), returncode=_CANNOT_TELL) from error
        except GroupError as error:
            raise CommandError(str(error)) from error
        except BrokenPipeError:
            # Whoever read it has seen enough. What is still in the buffer would raise it again at the very end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(_PIPE) from None

    # -- what it does

    def status(self, **options: Any) -> None:
        def look() -> tuple[int, Any, str]:
            found = self._fleet()
            plain = found.as_dict()
            return _EXIT[plain["state"]], plain, tables.status(plain, self._width(), self._style())

        self._show(look, **options)

    def stats(self, top: int, sort: str, **options: Any) -> None:
        def look() -> tuple[int, Any, str]:
            found = self._fleet()
            plain = found.as_dict()
            chosen = {"groups": tables.ranked(plain["groups"], sort)[:top], "views": plain["views"][:top]}
            text = tables.stats(plain, self._width(), self._style(), top=top, sort=sort)
            doubts = [plain["store_error"], *plain["doubts"]] if plain["store_error"] else plain["doubts"]
            text = "\n\n".join([*(self._style().ERROR(f"! {doubt}") for doubt in doubts), text])
            code = _CANNOT_TELL if plain["state"] == verdict.UNKNOWN else _WELL
            return code, {"doubts": doubts, **chosen}, text

        self._show(look, **options)

    def locks(self, groups: Sequence[str], **options: Any) -> None:
        for group in groups:
            validate(group)
        self._warn_about_memory()

        def look() -> tuple[int, Any, str]:
            parties = [one for one in runtime.store().parties() if not groups or fleet.in_the_way(one, groups)]
            plain = [fleet.party_as_dict(party) for party in parties]
            none = 1 if runtime.store().shared or settings.DEBUG else _CANNOT_TELL
            return 0 if parties else none, plain, tables.parties(parties)

        self._show(look, **options)

    def break_(self, ticket: str, **options: Any) -> None:
        self._warn_about_memory()
        party = break_lock(runtime.store(), ticket)
        if party is None:
            raise CommandError(f"Nobody has the ticket {ticket!r}. `manage.py pooling locks` shows those that exist.")
        if not party.holding:
            raise CommandError(
                f"{who(party.owner)} ({place(party.owner)}) only waits, for {tables.what(party)}: it has no lock that "
                f"could be taken, and gives up by itself. Break the lock of whoever holds one of these groups."
            )
        self.stdout.write(
            f"Taken from {who(party.owner)} ({place(party.owner)}): {tables.what(party)}\n"
            f"Its view runs on; what it writes is refused at the COMMIT, or by the fence of the next holder."
        )

    def invalidate(self, groups: Sequence[str], **options: Any) -> None:
        self._warn_about_memory()
        invalidate(*groups)
        logger.warning("%r invalidated %s", myself(), ", ".join(groups), extra={"groups": list(groups)})
        only = "" if runtime.store().shared else ", in this process only"
        self.stdout.write(f"Invalidated{only}: {', '.join(groups)}")

    def warm(self, **options: Any) -> None:
        warm.run(self.stdout, self.stderr, **options)

    def purge(self, older_than: float, database: str, **options: Any) -> None:
        if database not in connections.settings:
            raise CommandError(f"DATABASES has no {database!r}. It has {', '.join(map(repr, connections.settings))}.")
        _numbers.seconds("--older-than", older_than, error=CommandError)
        if older_than < conf.settings().LOCK_LEASE:
            raise CommandError(
                f"--older-than must be at least POOLING['LOCK_LEASE'], {conf.settings().LOCK_LEASE:g} seconds: the "
                f"fences of younger holders are still needed."
            )
        count = fences.purge(database, older_than)
        logger.warning("%r deleted %d fences in %r", myself(), count, database, extra={})
        self.stdout.write(f"{count} {'fence' if count == 1 else 'fences'} deleted in {database!r}")

    def _warn_about_memory(self) -> None:
        if not runtime.store().shared:
            self.stderr.write(verdict.MEMORY)

    # -- how it shows it

    def _show(self, look: Callable[[], tuple[int, Any, str]], json: bool, watch: float | None, **options: Any) -> None:
        """Print what ``look`` finds, once or every ``watch`` seconds, and end with its exit code."""
        code = _WELL
        try:
            while True:
                code, plain, text = look()
                if json:
                    self.stdout.write(tables.as_json(plain, lines=watch is not None))
                elif watch is not None and self.stdout.isatty():
                    self._redraw(text, watch)
                else:
                    self.stdout.write(text if watch is None else f"{time.strftime('%H:%M:%S')}\n{text}\n")
                self.stdout.flush()
                if watch is None:
                    break
                time.sleep(watch)
        except KeyboardInterrupt:
            self.stdout.write("")
        if code:
            raise SystemExit(code)

    def _redraw(self, text: str, watch: float) -> None:
        """In place: to the upper left, each line to its end, and nothing of the last picture below."""
        lines = [f"Every {watch:g} s, {time.strftime('%H:%M:%S')}; Ctrl-C ends it.", "", *text.split("\n")]
        room = shutil.get_terminal_size().lines - 1
        if len(lines) > room:
            lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more lines"]
        self.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J", ending="")

    def _width(self) -> int | None:
        return shutil.get_terminal_size().columns if self.stdout.isatty() else None

    def _style(self) -> Any:
        return self.style if self.stdout.isatty() or self._coloured else no_style()

    def _fleet(self) -> Fleet:
        """The site, without this command's own process, which is no part of it."""
        found = fleet.look()
        others = [one for one in found.processes if one["process"]["id"] != here.process_id()]
        return fleet.together(
            others, found.parties, shared=found.shared, store_error=found.store_error, strangers=found.strangers
        )


def _add_common(parser: ArgumentParser) -> None:
    """Django's own options at the end, where people type them: argparse knows them only before the inner command."""
    for option in ("--settings", "--pythonpath"):
        parser.add_argument(option, default=SUPPRESS, help=SUPPRESS)  # what stands before the command stays
    for option in ("--traceback", "--no-color", "--force-color", "--skip-checks"):
        parser.add_argument(option, action="store_true", default=SUPPRESS, help=SUPPRESS)
    parser.add_argument("-v", "--verbosity", type=int, choices=range(4), default=SUPPRESS, help=SUPPRESS)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= _DAY:
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 to {_DAY:g}")
    return value


def _number(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)
