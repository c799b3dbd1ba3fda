"""Events put into the inbox with SQL, past the service, and what is left to do there."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import psycopg
from live import Database

from benchmarks.load import event
from benchmarks.workbench import Workbench

COLUMNS = (
    "provider, event_id, type, payload, received_at, state, due_at, attempts, attempt_limit,"
    " finished_at"
)
PAYLOAD = event(1200).encode()


def create_schema(bench: Workbench, database: Database) -> None:
    bench.run(f"{bench.python} -m app events", bench.environment(database.url))


# Ids like those of load.py: by and large in the order of time, as Stripe's are.
def insert(database: Database, number: int, *, pending: bool) -> None:
    """Add events that are due, or done."""
    now = time.time()
    state, due, finished = ("pending", now, None) if pending else ("done", None, now)
    attempts = 0 if pending else 1
    if _file(database):
        sql = (
            f"INSERT INTO inbox ({COLUMNS}) WITH RECURSIVE n(i) AS"  # noqa: S608
            " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT 'stripe',"
            " 'evt_1' || printf('%05x', i / 500) || '2eZvKYlo2C' || lower(hex(randomblob(4))),"
            " 'charge.succeeded', ?, ?, ?, ?, ?, 10, ? FROM n"
        )
        with closing(sqlite3.connect(_file(database), timeout=60)) as sqlite:
            sqlite.execute(sql, (number, PAYLOAD, now, state, due, attempts, finished))
            sqlite.commit()
            sqlite.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return
    query = (
        f"INSERT INTO inbox ({COLUMNS}) SELECT 'stripe',"  # noqa: S608
        " 'evt_1' || lpad(to_hex(i / 500), 5, '0') || '2eZvKYlo2C'"
        " || left(md5(random()::text || i), 8),"
        " 'charge.succeeded', %s, %s, %s, %s, %s, 10, %s FROM generate_series(1, %s) AS i"
    )
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(query.encode(), (PAYLOAD, now, state, due, attempts, finished, number))
        connection.execute("VACUUM ANALYZE inbox")
        connection.execute("CHECKPOINT")  # or it would come while others are measured


def pending(database: Database) -> int:
    return database.count("due_at IS NOT NULL")


def wait_until_handled(database: Database, minutes: float = 30, at_most: int = 0) -> None:
    """Wait until no more than so many events are pending."""
    deadline = time.monotonic() + minutes * 60
    query = f"SELECT 1 FROM inbox WHERE due_at IS NOT NULL LIMIT {at_most + 1}"  # noqa: S608
    while len(database.rows(query)) > at_most:
        assert time.monotonic() < deadline, f"{pending(database)} events are still pending"
        time.sleep(0.05)


def bytes_used(database: Database) -> int:
    """Return the size of the database, without what SQLite has yet to move out of its log."""
    if file := _file(database):
        with closing(sqlite3.connect(file, timeout=60)) as sqlite:
            sqlite.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Path(file).stat().st_size
    [(size,)] = database.rows("SELECT pg_total_relation_size('inbox')")
    assert isinstance(size, int)
    return size


def _file(database: Database) -> str:
    prefix = "sqlite:///"
    return database.url.removeprefix(prefix) if database.url.startswith(prefix) else ""
