"""Filling the cache before visitors come: requests to the site's own WSGI application, in this process.

They go through all middlewares and make what a visitor's request makes, under the same locks. What is in the cache
already is only looked at. Each runs in a thread with connections of its own.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from django.conf import settings
from django.core.servers.basehttp import get_internal_wsgi_application
from django.db import connections
from django.utils.encoding import iri_to_uri

from . import routes
from .cache.status import read

AGENT = "pooling-warm"
_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True)
class Page:
    """What to ask for. ``site`` is scheme and host, ``target`` path and query, both as a browser would send them.
    ``language`` is sent as Accept-Language, if there is one. `page` makes and checks it."""

    site: str
    target: str
    language: str = ""

    @property
    def url(self) -> str:
        return self.site + self.target


@dataclass(frozen=True)
class Warmed:
    """What came of it. ``state``: "stored", "there" (it was in the cache already) or "failed"; ``why`` it has failed.
    ``status`` of the answer, 0 if there was none; ``told``, what its Cache-Status says; ``seconds``, what it took."""

    page: Page
    state: str
    status: int = 0
    told: str = ""
    why: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.state != "failed"


def page(address: str, site: str, language: str = "") -> Page:
    """A path such as ``/events?page=2`` on ``site``, or a whole URL. ValueError for what is neither."""
    if any(character.isspace() or not character.isprintable() for character in address):
        raise ValueError(f"{address!r} has a space or a control character in it: write %20 and the like.")
    parts = urlsplit(iri_to_uri(address))
    if parts.scheme or parts.netloc:
        site = site_of(parts)
    elif not parts.path.startswith("/"):
        raise ValueError(f"{address!r} is no address: a path begins with '/', a URL with http:// or https://.")
    return Page(site, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), language)


def site_of(parts: SplitResult) -> str:
    """Scheme and host, as browsers send them: without the port that the scheme has anyway. ValueError if one of them is
    missing."""
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or parts.port == 0:
        raise ValueError(f"{parts.geturl()!r} names no site such as https://shop.example.")
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(':' + _PORTS[parts.scheme])}"


def scheme() -> str:
    """The one that visitors use, as far as the settings say so."""
    return "https" if settings.SECURE_SSL_REDIRECT or settings.SECURE_PROXY_SSL_HEADER else "http"


def default_site() -> str:
    """The site of whom ``ALLOWED_HOSTS`` names first, with https if the settings speak of it. ValueError if they name
    nobody."""
    hosts = list(settings.ALLOWED_HOSTS) or (["localhost"] if settings.DEBUG else [])
    named = [host for host in hosts if host != "*" and not host.startswith(".")]
    if not named:
        raise ValueError("ALLOWED_HOSTS names no host for sure, and each has pages of its own: say which one.")
    return f"{scheme()}://{named[0]}"


def warm(pages: Iterable[Page], *, headers: Mapping[str, str] | None = None, jobs: int = 4) -> Iterator[Warmed]:
    """Ask for each of these pages, ``jobs`` at a time; what came of them, in the same order, as soon as it is known.

    ``headers`` are sent with each request. ImproperlyConfigured if the site's WSGI application cannot be loaded.
    """
    request = _Request(get_internal_wsgi_application(), dict(headers or {}))
    with ThreadPoolExecutor(jobs, thread_name_prefix="pooling-warm") as pool:
        yield from pool.map(request.make, pages)  # which gives up the rest when it is not asked for, as after Ctrl-C


@dataclass(frozen=True)
class _Request:
    application: Any
    headers: Mapping[str, str]

    def make(self, page: Page) -> Warmed:
        """Twice, if the first answer could not be stored because its fragments were not known."""
        warmed = self.once(page)
        return self.once(page) if warmed.why.startswith("fragments read") else warmed

    def once(self, page: Page) -> Warmed:
        began = time.perf_counter()
        try:
            answer = _Answer()
            answer.take(self.application(self.environ(page), answer.start))
        except Exception as error:  # noqa: BLE001 - the site's own, and told; the other pages are asked for all the same
            why = f"{type(error).__name__}: {error}"
            return Warmed(page, "failed", why=why, seconds=time.perf_counter() - began)
        finally:
            connections.close_all()  # this thread's: who raises has sent no `request_finished`, which does it otherwise
        return answer.judged(page, time.perf_counter() - began)

    def environ(self, page: Page) -> dict[str, Any]:
        site, target = urlsplit(page.site), urlsplit(page.target)
        sent = {"User-Agent": AGENT, **self.headers}
        if page.language:
            sent["Accept-Language"] = page.language
        return {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": routes.script_name(),
            "PATH_INFO": unquote_to_bytes(routes.in_site(target.path)).decode("latin-1"),
            "QUERY_STRING": target.query,
            "SERVER_NAME": site.hostname,
            "SERVER_PORT": str(site.port or _PORTS[site.scheme]),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": site.netloc,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": site.scheme,
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in sent.items()},
        }


@dataclass
class _Answer:
    """What the application answers, by the rules of WSGI."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def start(self, status: str, headers: Sequence[tuple[str, str]], exc_info: Any = None) -> Any:
        self.status = int(status.split(" ", 1)[0])
        self.headers = {name.lower(): value for name, value in headers}
        return lambda data: None

    def take(self, body: Iterable[bytes]) -> None:
        """All of it, to its end: the request's signals and transactions belong to it."""
        try:
            for _ in body:
                pass
        finally:
            if hasattr(body, "close"):
                body.close()

    def judged(self, page: Page, seconds: float) -> Warmed:
        told = read(self.headers.get("cache-status"))
        if told is not None and (told.stored or told.fresh):
            state, why = "stored" if told.stored else "there", ""
        elif "location" in self.headers:
            state, why = "failed", f"it redirects to {self.headers['location']}"
        elif told is None:
            state, why = "failed", f"no cached view has answered, but one with status {self.status}"
        else:
            state, why = "failed", told.why_not_stored or f"an old page: {told.detail}"
        return Warmed(page, state, self.status, told.text if told else "", why, seconds)
