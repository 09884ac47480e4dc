import os
from collections.abc import Iterable

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_site.settings")
_site = get_wsgi_application()


def application(environ, start_response) -> Iterable[bytes]:  # type: ignore[no-untyped-def]
    """The site. What it answers to HEAD loses its body here: gunicorn would do that too, with a warning each time."""
    answer: Iterable[bytes] = _site(environ, start_response)
    if environ["REQUEST_METHOD"] != "HEAD":
        return answer
    if hasattr(answer, "close"):
        answer.close()
    return []
