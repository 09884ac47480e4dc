"""``manage.py pooling warm``: its arguments, and what it prints of `pooling.warming`."""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, OutputWrapper
from django.utils import translation

from pooling import conf, routes, runtime, warming
from pooling._names import nearest
from pooling.groups import validate
from pooling.warming import Page, Warmed

HELP = (
    "Ask the site for pages, so that they are in the cache before visitors come. Exit code 1 if one of them does "
    "not get there."
)
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):\s*([^\r\n]*)")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help="such as /events?page=2, or a whole URL")
    parser.add_argument("--file", metavar="FILE", help="a path in each line; - is the standard input")
    parser.add_argument(
        "--all", action="store_true", help="every cached view that stands in the URLs without an argument"
    )
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="GROUP",
        help="of all these only pages that a write of this group may have dropped; without paths, of --all",
    )
    parser.add_argument(
        "--host",
        metavar="HOST",
        help="as visitors write it, such as shop.example or https://shop.example:8443; default: the first of "
        "ALLOWED_HOSTS, with https if the settings speak of it",
    )
    parser.add_argument(
        "--language",
        action="append",
        default=[],
        metavar="CODE",
        help="each page in this language, which LocaleMiddleware is told by Accept-Language; may be repeated",
    )
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="'NAME: VALUE'",
        help="sent with each request; may be repeated",
    )
    parser.add_argument("--jobs", type=_jobs, default=4, metavar="N", help="at a time; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(out: OutputWrapper, err: OutputWrapper, **options: Any) -> None:
    """CommandError for arguments that make no sense; SystemExit(1) if a page is not in the cache at the end."""
    if not conf.settings().ENABLED:
        raise CommandError("POOLING['ENABLED'] is False: nothing is cached.")
    pages = _pages(**options)
    if not runtime.store().shared:
        err.write(
            "POOLING['CACHE_ALIAS'] names the store in memory: pages are stored in this process only, end with it, and "
            "are of no use to the site. A django-redis alias is shared."
        )
    done = []
    try:
        for one in warming.warm(pages, headers=dict(options["header"]), jobs=options["jobs"]):
            done.append(one)
            if not options["json"]:
                out.write(_line(one))
                out.flush()
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error
    out.write(_as_json(done) if options["json"] else _sum(done))
    if not all(one.ok for one in done):
        raise SystemExit(1)


# -- what to ask for


def _pages(
    paths: Sequence[str],
    file: str | None,
    all: bool,
    group: Sequence[str],
    host: str | None,
    language: Sequence[str],
    **options: Any,
) -> list[Page]:
    for name in group:
        validate(name)
    known = dict(settings.LANGUAGES)
    for code in language:
        if code not in known:
            raise CommandError(f"LANGUAGES has no {code!r}. {nearest(code, known)}")
    if not paths and file is None and not all and not group:
        raise CommandError("Which pages? Name their paths, --file, or --all.")
    listed = [*paths, *(_lines(file) if file is not None else ())]
    with_all = all or (file is None and not paths)
    found: dict[Page, None] = {}
    for code in language or [""]:
        with _speaking(code):
            addresses = [*listed, *(routes.fixed() if with_all else ())]
            try:
                site = _site(host, needed=any(address.startswith("/") for address in addresses))
                for address in addresses:
                    page = warming.page(address, site, code)
                    if not group or _may_read(page, group):
                        found[page] = None
            except ValueError as error:
                raise CommandError(str(error)) from error
    if not found:
        what = f" that reads {' or '.join(map(repr, group))}" if group else ""
        raise CommandError(f"There is no page{what} among these: nothing was done.")
    return list(found)


def _lines(file: str) -> list[str]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise CommandError(f"--file {file}: {error}") from error
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _site(host: str | None, *, needed: bool) -> str:
    if host is None:
        try:
            return warming.default_site()
        except ValueError as error:
            if needed:
                raise CommandError(f"{error} --host shop.example, or whole URLs.") from error
            return ""
    if "://" in host:
        parts = urlsplit(host)
        if parts.path.strip("/") or parts.query:
            raise CommandError(f"--host {host}: a host only; paths are arguments of their own.")
        return warming.site_of(parts)
    return warming.site_of(urlsplit(f"{warming.scheme()}://{host}"))


def _may_read(page: Page, groups: Iterable[str]) -> bool:
    path = urlsplit(page.target).path
    with _speaking(translation.get_language_from_path(path) or ""):
        return any(routes.may_read(path, group) for group in groups)


@contextmanager
def _speaking(code: str) -> Iterator[None]:
    """In this language, if it is one: paths may begin with it."""
    if code:
        with translation.override(code):
            yield
    else:
        yield


def _header(text: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is no header such as 'Accept: text/html'")
    if match[1].lower() == "host":
        raise ArgumentTypeError("the host is named by --host")
    return match[1], match[2].rstrip()


def _jobs(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)


# -- what came of it


def _line(one: Warmed) -> str:
    language = f" ({one.page.language})" if one.page.language else ""
    told = "" if one.why and one.why in one.told else one.why
    words = "; ".join(filter(None, (one.told, told)))
    return f"{one.state:6}  {one.seconds:7.3f} s  {one.status or '-':>3}  {one.page.url}{language}  {words}"


def _sum(done: Sequence[Warmed]) -> str:
    states = [one.state for one in done]
    return (
        f"{len(done)} pages: {states.count('stored')} stored, {states.count('there')} there already, "
        f"{states.count('failed')} not in the cache"
    )


def _as_json(done: Iterable[Warmed]) -> str:
    return json.dumps(
        [
            {
                "url": one.page.url,
                "language": one.page.language,
                "state": one.state,
                "status": one.status,
                "cache_status": one.told,
                "why": one.why,
                "seconds": round(one.seconds, 6),
            }
            for one in done
        ],
        indent=2,
    )
