"""PostgreSQL as a store: what an address must say, and connections that give up in time.

The address with its password stays here: what others get to hold (Optuna, SQLAlchemy, Alembic) names no host.
psycopg is imported where it is used; it comes with `ablate-gan[postgresql]`.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ablate.problems import redacted, without_password

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

Answer = TypeVar("Answer")

DIALECT = "postgresql+psycopg"
SCHEMES = ("postgresql", DIALECT)
FORM = f"{DIALECT}://HOST:PORT/DATABASE"  # without a user, whose name every message would blot out
NO_DRIVER = "PostgreSQL's driver is not installed: pip install 'ablate-gan[postgresql]'"
# Seconds, but for the last: a server that has gone without a word is noticed within half a minute.
PATIENCE = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
            "tcp_user_timeout": 30_000}  # fmt: skip


class Unreachable(ConnectionError):
    """The server does not let us in; the text says why, without secrets."""


def is_address(text: str) -> bool:
    """Whether the text is meant as an address of PostgreSQL, right or wrong."""
    return text.partition("://")[0].lower().startswith("postgres") and "://" in text


def mistake(url: str) -> str:
    """What is wrong with an address before anybody is asked, without its secrets; empty where nothing is."""
    scheme, colon, rest = url.partition("://")
    if not colon or scheme.lower() not in SCHEMES:
        return f"expected {FORM}, found {_scheme(url)}"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # reads it: out of range, or no number
    except ValueError:  # whose text may hold a part of a password
        return f"is no address such as {FORM}: its port is no number; in a password / ? # [ ] @ are written %2F %3F ..."
    if any(letter.isspace() for letter in url):
        return f"is no address such as {FORM}: it holds a space; in a password that is %20"
    return "" if parts.path.strip("/") else f"{redacted(url, url)} names no database; expected {FORM}"


def _scheme(url: str) -> str:
    scheme, colon, _ = url.partition("://")
    return f"{scheme}://..." if colon and scheme.replace("+", "").isalnum() else "no scheme that is known"


def holds_password(url: str) -> bool:
    """Whether an address holds a password, or what may be one."""
    try:
        user, name = urlsplit(url).password, urlsplit(url).username
    except ValueError:
        return True
    bare = url.replace(f"//{name}@", "//", 1) if name else url
    return user is not None or without_password(bare) != bare


def driver_missing() -> str:
    """What to install, where the driver is not; else empty."""
    return "" if importlib.util.find_spec("psycopg") else NO_DRIVER


def user(url: str) -> str:
    """Who is asked for, as libpq finds it; empty where only a service file would say, or nobody."""
    stated = _arguments(url)
    if name := stated.get("user") or os.environ.get("PGUSER"):
        return str(name)
    if "service" in stated or "PGSERVICE" in os.environ:
        return ""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container may run as a number that has no name
        return ""


def remedy(url: str, said: str) -> str:
    """What helps where the server has refused us with these words, without secrets."""
    stated, who = _arguments(url), user(url) or "USER"
    host, port, database = (stated.get(key) for key in ("host", "port", "dbname"))
    options = "".join(f" -{letter} {value}" for letter, value in (("h", host), ("p", port)) if value)
    there, missing = f"{host or 'localhost'}:{port or 5432}", "does not exist" in said
    if "password" in said:
        helps = f"set PGPASSWORD, or write {there}:*:{who}:PASSWORD into ~/.pgpass (chmod 600 ~/.pgpass)"
    elif missing and "role" in said:
        helps = f"name another user, or make this one: createuser{options} --pwprompt {who}"
    elif missing and "database" in said:
        helps = f"make it: createdb{options} -U {who} {database}"
    else:
        helps = f"is a server running at {there}?"
    return redacted(helps, url)


def engine(url: str, **options: Any) -> Engine:
    """SQLAlchemy's engine at the address; a connection that the server has lost is replaced when it is next used."""
    from sqlalchemy import create_engine

    return create_engine(f"{DIALECT}://", **engine_options(url), **options)


def engine_options(url: str) -> dict[str, Any]:
    """What `create_engine` and Optuna take beside an address that says no more than the dialect."""
    return {"creator": partial(_connect, _arguments(url)), "pool_pre_ping": True}


def answers(url: str) -> bool:
    """Whether the server lets us in, within seconds: a new connection, since one that is open may wait for ever."""
    import psycopg

    try:
        _connect(_arguments(url)).close()
    except psycopg.Error:
        return False
    return True


def tables(url: str) -> set[str]:
    """Names of the database's tables. Raises Unreachable."""
    from sqlalchemy import inspect

    return _ask(url, lambda connection: set(inspect(connection).get_table_names()))


def version(url: str) -> str:
    """What the server says of its version, such as 18.4. Raises Unreachable."""
    from sqlalchemy import text

    return _ask(url, lambda connection: str(connection.execute(text("show server_version")).scalar()).split()[0])


def _ask(url: str, question: Callable[[Connection], Answer]) -> Answer:
    from sqlalchemy import NullPool
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with engine(url, poolclass=NullPool).connect() as connection:
            return question(connection)
    except SQLAlchemyError as error:
        raise Unreachable(redacted(cause(error), url)) from None


def cause(error: BaseException) -> str:
    """The database's own words, in a line: those of the exception at the bottom."""
    while (below := getattr(error, "orig", None) or error.__cause__) is not None:
        error = below
    return (str(error).splitlines() or [type(error).__name__])[0]


def _arguments(url: str) -> dict[str, Any]:
    """What the address says, in libpq's words; what it leaves out comes from PGUSER, PGPASSWORD, ~/.pgpass, ..."""
    from sqlalchemy import make_url

    parts = make_url(url).set(drivername=DIALECT)
    _, stated = parts.get_dialect()().create_connect_args(parts)
    return {**PATIENCE, "application_name": "ablate", **stated}


def _connect(arguments: dict[str, Any]) -> Any:
    import psycopg

    # Statements prepared on a connection break behind a pooler such as PgBouncer.
    return psycopg.connect(prepare_threshold=None, **arguments)
