"""``DATABASE_URL`` as Django's settings of one database."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

EXAMPLE = "mysql://user:password@127.0.0.1:3306/boxoffice"


def parse(url: str) -> dict[str, str]:
    """``mysql://user:password@host:port/name``, or ``mysql://user@/name?unix_socket=/run/mysqld/mysqld.sock``.

    Signs with a meaning in URLs are written ``%XX`` in user, password and name. ValueError says what to change.
    """
    try:
        parts = urlsplit(url)
        host = unquote(parts.hostname or "")
    except ValueError as error:
        raise ValueError(f"DATABASE_URL: {error}. Write it as {EXAMPLE}.") from None
    if parts.scheme not in ("mysql", "mariadb"):
        raise ValueError(f"DATABASE_URL must start with mysql://, as in {EXAMPLE}.")
    name = unquote(parts.path.removeprefix("/"))
    if not name or "/" in name or "`" in name or len(name) > 64 or not name.isprintable():
        raise ValueError(f"DATABASE_URL must end with the name of one database, as in {EXAMPLE}.")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"DATABASE_URL: the port must be a number from 1 to 65535, as in {EXAMPLE}.")
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in ("unix_socket", "socket"):
            raise ValueError(f"DATABASE_URL: unknown parameter {key!r}; the only one is unix_socket.")
        if not value.startswith("/"):
            raise ValueError(f"DATABASE_URL: {key} must be a path that starts with a slash, not {value!r}.")
        host = value  # Django takes a host that starts with a slash for a socket
    return {
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host or "127.0.0.1",
        "PORT": str(port or ""),
    }
