"""The engines: how to connect to SQLite and PostgreSQL, with and without asyncio."""

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.ext.asyncio import create_async_engine as asyncio_engine

from app.database import is_sqlite, url
from app.inbox.sqlite_driver import Connection
from app.settings import settings

CONNECT_SECONDS = 5  # to connect, for a lost packet, for another process's write to SQLite


def create_engine(**pool: Any) -> sa.Engine:
    """Return an engine that blocks while it waits. Its commits reach the disk.

    Args:
        pool: Options of its pool, if not SQLAlchemy's defaults: `pool_size` and the like.
    """
    if is_sqlite:
        engine = sa.create_engine(url.set(drivername="sqlite"), hide_parameters=True, **pool)
        sa.event.listen(engine, "connect", _configure_sqlite)
        return engine
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=_postgresql_options(),
        hide_parameters=True,  # in errors, where they would be personal data
        pool_pre_ping=True,  # the server may have closed a connection meanwhile
        **pool,
    )


def create_async_engine() -> AsyncEngine:
    """Return an engine for `Connections`, which begin transactions themselves.

    On SQLite its commits do not wait for the disk. What a power failure takes of such a commit, it
    takes whole: the handler's writes and the event's being done. The event is handled again.
    """
    if is_sqlite:
        return asyncio_engine(
            url.set(drivername="sqlite+aiosqlite"),
            connect_args={"async_creator_fn": Connection},
            hide_parameters=True,
        )
    return asyncio_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=_postgresql_options(),
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
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


def _configure_sqlite(connection: DBAPIConnection, _: object) -> None:
    # A transaction that reads first and then writes would fail if another wrote in between.
    # One that takes the write lock at its beginning waits for its turn.
    connection.isolation_level = "IMMEDIATE"
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {CONNECT_SECONDS * 1000}")
    cursor.execute("PRAGMA synchronous = FULL")
    with suppress(sqlite3.OperationalError):  # another process is changing it, for good
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def is_missing() -> bool:
    """Return whether SQLite's file does not exist. To connect would make it."""
    return is_sqlite and not Path(url.database or "").exists()


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
