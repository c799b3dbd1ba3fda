"""The database: SQLite out of the box, PostgreSQL by setting `DATABASE_URL`.

Define your own tables with `metadata`. `insert` has `ON CONFLICT` on both databases.
"""

import sqlite3
from typing import Any

import sqlalchemy as sa
from psycopg import ProgrammingError as InvalidOption
from psycopg.conninfo import make_conninfo
from sqlalchemy.dialects import postgresql, sqlite

from app.settings import settings

metadata = sa.MetaData()
"""The tables of the service. Define yours with it: `sa.Table("orders", metadata, …)`."""


def parse_url(text: str) -> sa.URL:
    """Parse the URL of a database, and check that this service can use it.

    Raises:
        SystemExit: it cannot be used; the message says why, and what to write instead.
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
    file = url.database or ":memory:"
    in_memory = ":memory:" in file or url.query.get("mode") == "memory"
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
"""`insert(table).values(…).on_conflict_do_nothing()`, for the database in use."""

_SQLITE_NOW = "((julianday('now') - 2440587.5) * 86400.0)"
_POSTGRESQL_NOW = "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"
NOW = _SQLITE_NOW if is_sqlite else _POSTGRESQL_NOW
"""SQL for the database's clock, in seconds since the epoch: one clock for all hosts."""
