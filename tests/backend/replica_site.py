"""A site with a writer and a replica: ``python -m tests.backend.replica_site DATABASES ROUTER_FOLDER``.

Says on each line of its standard input where a read goes now, and what a line asks for besides.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from django.conf import settings

KEEP: dict[str, Any] = {}


def site() -> tuple[Any, list[Any]]:
    from django.db import connections, models
    from django.http import HttpResponse
    from django.urls import path

    from pooling import locked, locked_cache

    class Line(models.Model):
        text = models.CharField(max_length=20)

        class Meta:
            app_label = "replica_site"

        def __str__(self) -> str:
            return self.text

    def read_from() -> str:
        return str(Line.objects.first()._state.db)  # type: ignore[union-attr]

    def where(request: Any) -> HttpResponse:
        return HttpResponse(read_from())

    def mixed(request: Any) -> HttpResponse:
        """Written on the one, read on the other, and perhaps broken off."""
        Line.objects.create(text=request.GET["text"])
        list(Line.objects.using("replica"))
        inside = {alias: connections[alias].in_atomic_block for alias in ("default", "replica")}
        if "fail" in request.GET:
            raise ValueError
        return HttpResponse(json.dumps(inside))

    cached = locked_cache(60, reads=["lines"])(where)
    reading = locked(reads=["lines"])(where)
    writing = locked(writes=["lines"])(where)
    views = {"where": where, "mixed": mixed, "cached": cached, "reading": reading, "writing": writing}
    return Line, [path(name, view, name=name) for name, view in views.items()]


def main() -> None:
    sys.path.insert(0, sys.argv[2])
    settings.configure(
        DATABASES=json.loads(sys.argv[1]),
        DATABASE_ROUTERS=["routers.ReplicaRouter"],
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        ROOT_URLCONF="replica_site_urls",
        INSTALLED_APPS=["pooling"],
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="x",
    )
    import django

    django.setup()
    from types import ModuleType

    from django.db import connections
    from django.test import Client

    Line, urls = site()
    module = ModuleType("replica_site_urls")
    module.urlpatterns = urls  # type: ignore[attr-defined]
    sys.modules["replica_site_urls"] = module
    client = Client(raise_request_exception=False)
    for line in sys.stdin:
        if line == "create\n":
            with connections["default"].schema_editor() as editor:
                editor.create_model(Line)
            Line.objects.create(text="first")
            connections["default"].close()
            said: Any = "created"
        elif line == "lines\n":
            said = list(Line.objects.using("default").values_list("text", flat=True))
            connections["default"].close()
        elif line == "busy\n":
            said = [len(connections[alias].pool._busy) for alias in ("default", "replica")]
        else:
            answer = client.get(f"/{line.strip()}")
            # The test client keeps connections open between requests; a server does not.
            connections.close_all()
            said = answer.content.decode() if answer.status_code == 200 else answer.status_code
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
