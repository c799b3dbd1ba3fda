"""The database: SQLite out of the box, PostgreSQL by setting `DATABASE_URL`.

Tables of your own are made with `metadata`, and `insert` knows `ON CONFLICT` on both databases.
"""

import asyncio
import sqlite3
from contextlib import suppress
from typing import Any

import aiosqlite
import sqlalchemy as sa
from psycopg import ProgrammingError as InvalidOption
from psycopg.conninfo import make_conninfo
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.settings import settings

CONNECT_SECONDS = 5  # to connect, for a lost packet, for another process's write to SQLite

metadata = sa.MetaData()
"""The tables of the service. Make yours with it: `sa.Table("orders", metadata, …)`."""


def parse_url(text: str) -> sa.URL:
    """Return a database URL that this service can use.

    Raises:
        SystemExit: it cannot; the line says why, and what to write.
    """
    try:
        url = sa.make_url(text.replace("postgres://", "postgresql://", 1))
    except (sa.exc.ArgumentError, ValueError):
        raise SystemExit(
            "DATABASE_URL is not a valid URL: use postgresql://user:password@host/name"
        ) from None
    match url.get_backend_name():
        case "sqlite":
            _check_sqlite(url)
        case "postgresql":
            _check_postgresql(url)
        case other:
            raise SystemExit(f"DATABASE_URL names {other}: use sqlite or postgresql")
    return url


def _check_sqlite(url: sa.URL) -> None:
    in_memory = ":memory:" in (url.database or ":memory:") or url.query.get("mode") == "memory"
    if in_memory:
        raise SystemExit(
            "DATABASE_URL names no file, so events would be lost: use sqlite:///inbox.db"
        )
    if url.query and "uri" not in url.query:
        options = ", ".join(url.query)
        raise SystemExit(f"DATABASE_URL has options that SQLite does not know: remove {options}")
    if sqlite3.sqlite_version_info < (3, 35):
        version = sqlite3.sqlite_version
        raise SystemExit(f"DATABASE_URL: SQLite {version} is too old: use 3.35, or PostgreSQL")


def _check_postgresql(url: sa.URL) -> None:
    options: dict[str, Any] = dict(url.query)
    try:
        make_conninfo(**options)
    except InvalidOption as error:
        reason = str(error).strip()
        raise SystemExit(f"DATABASE_URL has an option that PostgreSQL refuses: {reason}") from None


url = parse_url(settings.database_url)
is_sqlite = url.get_backend_name() == "sqlite"

insert = sqlite.insert if is_sqlite else postgresql.insert
"""`insert(table).values(…).on_conflict_do_nothing()`, as the database in use spells it."""

_SQLITE_NOW = "((julianday('now') - 2440587.5) * 86400.0)"
_POSTGRESQL_NOW = "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"
NOW = _SQLITE_NOW if is_sqlite else _POSTGRESQL_NOW
"""SQL for the database's clock, in seconds since the epoch: one clock for all hosts."""


def create_engine(*, durable: bool = True) -> sa.Engine:
    """Return the engine of the thread that commits.

    Args:
        durable: Whether a commit reaches the disk before it returns. It must for an
            acknowledgement. On PostgreSQL that is decided per transaction, see `group_commit.py`.
    """
    if is_sqlite:
        engine = sa.create_engine(url.set(drivername="sqlite"), hide_parameters=True)
        _configure_sqlite(engine, durable=durable)
        return engine
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=_postgresql_options(),
        hide_parameters=True,  # in errors, where they would be personal data
        pool_pre_ping=True,
    )


def create_handlers_engine() -> AsyncEngine:
    """Return the engine of the handlers' transactions. Their commits need no fsync.

    What a power failure takes of such a commit, it takes whole: the handler's writes and the
    event's being done. The event is handled again.
    """
    if is_sqlite:
        engine = create_async_engine(url.set(drivername="sqlite+aiosqlite"), hide_parameters=True)
        _configure_sqlite(engine.sync_engine, durable=False)
        return engine
    return create_async_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=_postgresql_options(),
        hide_parameters=True,
        pool_size=settings.concurrency,
    )


def _postgresql_options() -> dict[str, Any]:
    return {
        "client_encoding": "utf8",
        "connect_timeout": CONNECT_SECONDS,
        # For a host that vanishes. By default a connection would wait for it for two hours.
        "tcp_user_timeout": CONNECT_SECONDS * 1000,
        "keepalives_idle": CONNECT_SECONDS,
        "keepalives_interval": 1,
        # A pooler such as PgBouncer gives each transaction another connection.
        "prepare_threshold": None,
    }


def _configure_sqlite(engine: sa.Engine, *, durable: bool) -> None:
    synchronous = "FULL" if durable else "NORMAL"

    def connected(connection: DBAPIConnection, _: object) -> None:
        # A transaction that reads first and then writes would fail if another wrote in between.
        # One that takes the write lock at its beginning waits for its turn.
        connection.isolation_level = "IMMEDIATE"
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {CONNECT_SECONDS * 1000}")
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        with suppress(sqlite3.OperationalError):  # another process is changing it, for good
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.close()

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "invalidate", _roll_back)


def _roll_back(connection: DBAPIConnection, *_: object) -> None:
    """Roll back what a cancelled statement leaves open.

    SQLAlchemy only closes such a connection. A cursor that is still referenced, from a traceback
    for example, would then keep its transaction, and with it SQLite's write lock.
    """
    driver = getattr(connection, "driver_connection", None)
    if isinstance(driver, aiosqlite.Connection):
        task = asyncio.ensure_future(driver.rollback())  # runs before the close that follows
        _rollbacks.add(task)
        task.add_done_callback(_rolled_back)


_rollbacks: set[asyncio.Future[None]] = set()  # the event loop itself keeps no task alive


def _rolled_back(task: asyncio.Future[None]) -> None:
    _rollbacks.discard(task)
    if not task.cancelled():
        task.exception()  # the connection was closed already: nothing is open then


# What PostgreSQL says while it starts, ends, or has no connection left.
_TEMPORARY = ("starting up", "shutting down", "recovery mode", "too many", "remaining connection")


def is_temporary(error: Exception) -> bool:
    """Tell a database that is away, and may come back, from one that can never be used."""
    if is_sqlite:
        return "locked" in str(error)
    if not isinstance(error, sa.exc.OperationalError):
        return isinstance(error, OSError)
    message = str(error.orig)
    server_answered = "FATAL" in message or getattr(error.orig, "sqlstate", None) is not None
    return not server_answered or any(words in message for words in _TEMPORARY)


def unusable(error: Exception) -> str:
    """Return what is wrong with the database and what to do, in one line."""
    message = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    if is_sqlite:
        return f"{message}: {url.database} and its folder must exist, or be writable"
    if getattr(getattr(error, "orig", None), "sqlstate", None) == "42501":
        return f"{message}: GRANT CREATE ON SCHEMA public to the role, or create the tables for it"
    return f"{message}: check user, password, database and options"
