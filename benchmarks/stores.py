"""Which events are still somewhere in the stores of a set-up."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
from live.databases import SQLITE
from psycopg import sql

from benchmarks.homes import run
from benchmarks.running import Running
from benchmarks.servers import Redis

EVENT_ID = re.compile(r"evt_1[0-9a-f]{5}2eZvKY[0-9a-f]{12}")  # as load.new_ids makes them
OWN_SCHEMAS = ("pg_catalog", "information_schema")


def found_in_stores(service: Running) -> set[str]:
    """Return all ids of events in the database, the broker, and the folder of a set-up."""
    found: set[str] = set()
    for text in _texts(service):
        found.update(EVENT_ID.findall(text))
    return found


def _texts(service: Running) -> Iterator[str]:
    if service.database.url.startswith(SQLITE):
        yield from _texts_of_sqlite(service.database.file)
    else:
        yield from _texts_of_postgresql(service.database.url)
    for file in service.folder.glob("*.db"):
        yield from _texts_of_sqlite(file)
    if service.redis:
        yield _text_of_redis(service.redis, service.folder)


def _texts_of_sqlite(file: Path) -> Iterator[str]:
    with closing(sqlite3.connect(file, timeout=60)) as connection:
        yield from connection.iterdump()


def _texts_of_postgresql(url: str) -> Iterator[str]:
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname <> ALL (%s)",
            [list(OWN_SCHEMAS)],
        ).fetchall()
        for schema, table in tables:
            query = sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(schema, table))
            for (text,) in connection.execute(query):
                yield text


def _text_of_redis(server: Redis, folder: Path) -> str:
    """Return a snapshot of a Redis, in which texts are not compressed."""
    client = f"redis-cli -p {server.port}"
    snapshot = folder / "snapshot.rdb"
    run(f"{client} config set rdbcompression no", folder)
    run(f"{client} --rdb {snapshot}", folder)
    return snapshot.read_bytes().decode("latin-1")
