"""The database: SQLite out of the box, PostgreSQL by setting `DATABASE_URL`."""

from contextlib import nullcontext, suppress
from sqlite3 import OperationalError
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.config import settings

TIMEOUT_SECONDS = 5  # for a connection, for its packets, for another process's SQLite write

try:
    url = sa.make_url(settings.database_url.replace("postgres://", "postgresql://"))
except (sa.exc.ArgumentError, ValueError):
    raise SystemExit("DATABASE_URL is no URL: write postgresql://user@host/name") from None
if url.get_backend_name() not in ("sqlite", "postgresql"):
    raise SystemExit(f"DATABASE_URL names {url.get_backend_name()}: use sqlite or postgresql")

is_sqlite = url.get_backend_name() == "sqlite"
if is_sqlite and (":memory:" in (url.database or ":memory:") or url.query.get("mode") == "memory"):
    raise SystemExit("DATABASE_URL names no file, so nothing would last: write sqlite:///inbox.db")
metadata = sa.MetaData()
insert = sqlite.insert if is_sqlite else postgresql.insert
_clock = "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"
_clock = "((julianday('now') - 2440587.5) * 86400.0)" if is_sqlite else _clock
now: sa.ColumnElement[float] = sa.literal_column(_clock, sa.Double)
"""The database's clock, in seconds since the epoch: one clock for all hosts that share it."""


def connect() -> tuple[sa.Engine, AsyncEngine]:
    """Return two engines: one for the thread that commits, one for handlers and queries."""
    hidden = {"hide_parameters": True}  # in errors, where they would be personal data
    if is_sqlite:
        engine = sa.create_engine(url.set(drivername="sqlite"), **hidden)
        handlers = create_async_engine(url.set(drivername="sqlite+aiosqlite"), **hidden)
        for each in (engine, handlers.sync_engine):
            sa.event.listen(each, "connect", _configure_sqlite)
        return engine, handlers
    server = url.set(drivername="postgresql+psycopg").update_query_dict({"client_encoding": "utf8"})
    args = {"connect_timeout": TIMEOUT_SECONDS, "tcp_user_timeout": TIMEOUT_SECONDS * 1000}
    # And for a host that vanishes when it has received a query: by default, after two hours.
    args |= {"keepalives_idle": TIMEOUT_SECONDS, "keepalives_interval": 1}
    options: dict[str, Any] = {"connect_args": args, "isolation_level": "READ COMMITTED"} | hidden
    engine = sa.create_engine(server, **options)
    sa.event.listen(engine, "connect", _configure_postgresql)
    # For prepare_threshold see _configure_postgresql.
    options |= {"connect_args": args | {"prepare_threshold": None}, "pool_pre_ping": True}
    return engine, create_async_engine(server, pool_size=settings.concurrency, **options)


def _configure_postgresql(connection: Any, _: object) -> None:
    # A row that somebody has locked is not to keep all others from being committed.
    connection.execute(f"SET lock_timeout = {int(settings.ack_deadline_seconds * 500)}")  # ms
    # Statements are prepared, and a plan made for a small table would read all of a large one.
    connection.execute("SET enable_seqscan = off; SET enable_sort = off; SET jit = off")
    connection.execute("SET default_transaction_isolation = 'read committed'")  # of one statement
    connection.commit()


def _configure_sqlite(connection: DBAPIConnection, _: object) -> None:
    # A transaction that reads first and then writes fails at once if another wrote in between;
    # one that takes the write lock at its beginning waits for its turn.
    connection.isolation_level = "IMMEDIATE"
    for pragma in (f"busy_timeout={TIMEOUT_SECONDS}000", "journal_mode=WAL", "synchronous=FULL"):
        # To change to WAL, which is for good, does not wait for another that is doing so.
        with suppress(OperationalError) if pragma == "journal_mode=WAL" else nullcontext():
            connection.cursor().execute(f"PRAGMA {pragma}")


def create_schema(connection: sa.Connection) -> None:
    """Create the tables that are missing; any number of processes may do so at once."""
    # The number is any, and the same in all processes.
    lock = "BEGIN IMMEDIATE" if is_sqlite else "SELECT pg_advisory_xact_lock(453857734520)"
    connection.exec_driver_sql(lock)
    metadata.create_all(connection)
