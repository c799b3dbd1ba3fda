"""The engines: one for the thread that commits, one for the handlers' transactions."""

import sqlite3
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.database import is_sqlite, url
from app.inbox.sqlite_driver import Connection
from app.settings import settings

ISOLATION_LEVEL = "READ COMMITTED"  # in a stricter one, PostgreSQL fails concurrent duplicates
CONNECT_SECONDS = 5  # to connect, for a lost packet, for another process's write to SQLite


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
        isolation_level=ISOLATION_LEVEL,
        pool_pre_ping=True,
    )


def create_handlers_engine() -> AsyncEngine:
    """Return the engine of the handlers' transactions. Their commits need no fsync.

    What a power failure takes of such a commit, it takes whole: the handler's writes and the
    event's being done. The event is handled again.
    """
    if is_sqlite:
        return create_async_engine(
            url.set(drivername="sqlite+aiosqlite"),
            connect_args={"async_creator_fn": Connection},
            hide_parameters=True,
        )
    return create_async_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=_postgresql_options(),
        hide_parameters=True,
        isolation_level=ISOLATION_LEVEL,
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


# What PostgreSQL says while it starts, ends, or has no connection left.
_TEMPORARY = ("starting up", "shutting down", "recovery mode", "too many", "remaining connection")


def is_temporary(error: Exception) -> bool:
    """Tell a database that is away, and may come back, from one that can never be used."""
    if is_sqlite:
        return "locked" in str(error)
    if not isinstance(error, sa.exc.OperationalError):
        return isinstance(error, OSError)
    message = str(error.orig)
    if "connection is bad: invalid" in message:  # an option, before anything was sent
        return False
    server_answered = "FATAL" in message or getattr(error.orig, "sqlstate", None) is not None
    return not server_answered or any(words in message for words in _TEMPORARY)


def unusable(error: Exception) -> str:
    """Return what is wrong with the database and what to do, in one line."""
    message = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    if is_sqlite:
        return f"{message}: {url.database} and its folder must exist, or be writable"
    if getattr(getattr(error, "orig", None), "sqlstate", None) == "42501":
        return f"{message}: GRANT CREATE ON SCHEMA public to the role, or migrate as another"
    return f"{message}: check user, password, database and options"
