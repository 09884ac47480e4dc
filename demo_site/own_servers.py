"""DATABASE_URL and REDIS_URL, looked at before anything is started or written: what is wrong there is said in one line.

The demo writes only into a database that is empty, or that nobody but the demo has used.
"""

from __future__ import annotations

import MySQLdb
import redis

from demo_site import database_url, people

TIMEOUT = 5  # seconds
WORKLOAD = "boxoffice_workload_"  # how the names of the workload's own databases begin
# What `migrate` makes. Without the first one even these belong to somebody else: every Django site has the others.
OURS = "boxoffice_event"
TABLES = frozenset(
    f"{app}_{name}"
    for app, names in {
        "boxoffice": "account event order orderline seat transfer",
        "auth": "group group_permissions permission user user_groups user_user_permissions",
        "django": "admin_log content_type migrations session",
        "pooling": "fence",
    }.items()
    for name in names.split()
)
_SHOWN = 5
_NO_DATABASE, _NO_RIGHT, _WRONG_PASSWORD = 1049, 1044, (1045, 1698, 3118)


class UsageError(ValueError):
    """Something that was given to the demo cannot be used; the message is one line that says what to change."""


def _server(settings: dict[str, str]) -> str:
    host, port = settings["HOST"], settings["PORT"]
    return host if host.startswith("/") else f"{host}:{port or 3306}"


def _tables(settings: dict[str, str]) -> list[str] | None:
    """The tables and views in the database; None when there is no such database. Raises MySQLdb.Error."""
    host = settings["HOST"]
    place = {"unix_socket": host} if host.startswith("/") else {"host": host}
    connection = MySQLdb.connect(
        **place,
        port=int(settings["PORT"] or 3306),
        user=settings["USER"],
        password=settings["PASSWORD"],
        charset="utf8mb4",
        connect_timeout=TIMEOUT,
    )
    try:
        try:
            connection.select_db(settings["NAME"])
        except MySQLdb.Error as error:
            if error.args[0] != _NO_DATABASE:
                raise
            return None
        cursor = connection.cursor()
        cursor.execute("SHOW TABLES")
        return sorted(row[0] for row in cursor.fetchall())
    finally:
        connection.close()


def explain(settings: dict[str, str], error: BaseException) -> str:
    """One line about what the server said: what it is, and what to change."""
    number = error.args[0] if error.args else None
    said = " ".join(str(error.args[-1] if error.args else error).split())
    user = settings["USER"]
    if number in _WRONG_PASSWORD:
        advice = f"Correct the user {user!r} or its password (special signs are written %XX)."
    elif number == _NO_RIGHT:
        advice = f"Let {user!r} create and use this database, or name another one or another user."
        if WORKLOAD in said:
            advice = f"GRANT ALL ON `{WORKLOAD}%`.* to {user!r}, or leave the workload out: WORKLOAD=0."
    elif isinstance(number, int) and 2000 <= number < 3000:
        advice = "Start that server, or correct host and port."
    else:
        advice = f"Name an empty database in which {user!r} may do everything."
    return f"DATABASE_URL: {_server(settings)} said: {said} ({number}). {advice}"


def check_database(url: str) -> str:
    """What will be written where, in one line. UsageError when the URL, the server or the database cannot be used."""
    try:
        settings = database_url.parse(url)
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        tables = _tables(settings)
    except MySQLdb.Error as error:
        raise UsageError(explain(settings, error)) from None
    where = f"{settings['NAME']!r} on {_server(settings)}"
    foreign = sorted(set(tables or ()) - TABLES)
    if tables and (foreign or OURS not in tables):
        named = foreign or tables
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        raise UsageError(
            f"DATABASE_URL: the database {where} has tables that are not the demo's "
            f"({', '.join(named[:_SHOWN])}{more}). Name an empty database, or one that does not exist yet; "
            "nothing was written."
        )
    if tables:
        return f"DATABASE_URL: going on with the demo's own tables in the database {where}."
    creates = "creates the database" if tables is None else "writes into the empty database"
    return (
        f"DATABASE_URL: {creates} {where}: its tables and {len(people.PEOPLE) + 1} users with a published password. "
        "They stay there when the demo ends."
    )


def check_redis(url: str) -> None:
    """UsageError when the URL or the server cannot be used."""
    example = "redis://127.0.0.1:6379/0"
    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=TIMEOUT, socket_timeout=TIMEOUT)
    except (ValueError, TypeError) as error:
        raise UsageError(f"REDIS_URL cannot be used: {' '.join(str(error).split())} Write it as {example}.") from None
    try:
        client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise UsageError(f"REDIS_URL: {said}. Start that server, or correct REDIS_URL, as in {example}.") from None
    finally:
        client.close()
