"""What many received events cost a service: speed, memory and disk."""

import sqlite3
import time
from contextlib import closing
from functools import partial

import psycopg
from live.databases import SQLITE, Database

from benchmarks.cores import take_cores
from benchmarks.effects import RATE, WARM_UP, named
from benchmarks.homes import Homes, homes
from benchmarks.load import body, percentile_99
from benchmarks.options import Options
from benchmarks.results import Results
from benchmarks.running import running
from benchmarks.setups import TEMPLATE

MANY = 20_000  # events that one process receives before its memory is measured
FRACTION = 20  # its memory is also measured after this fraction of them
AT_A_TIME = 5_000  # events: their signatures are good for 300 seconds

COLUMNS = (
    "endpoint, event_id, event_type, payload, received_at, state, due_at, attempts, failures,"
    " finished_at"
)
VALUES = "'payment_intent.succeeded', {payload}, {now}, 'done', NULL, 1, 0, {now}"
# Ids like those of load.py: by and large in the order of time, as Stripe's are.
SQLITE_INSERT = (
    f"INSERT INTO webhook_events ({COLUMNS})"  # noqa: S608
    " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :number)"
    " SELECT 'stripe', 'evt_1' || printf('%05x', i / 500) || '2eZvKY'"
    " || lower(hex(randomblob(6))), " + VALUES.format(payload=":payload", now=":now") + " FROM n"
)
POSTGRESQL_INSERT = (
    f"INSERT INTO webhook_events ({COLUMNS})"  # noqa: S608
    " SELECT 'stripe', 'evt_1' || lpad(to_hex(i / 500), 5, '0') || '2eZvKY'"
    " || left(md5(random()::text || i), 12), "
    + VALUES.format(payload="%(payload)s", now="%(now)s")
    + " FROM generate_series(1, %(number)s) AS i"
)


def run(options: Options) -> Results:
    results = Results("growth")
    with homes(take_cores()) as places:
        for number in range(1, options.rounds + 1):
            for kind in options.databases:
                for stored in (0, options.stored):
                    take = partial(_speed, places, kind, stored, options.events)
                    results.measure(_with_stored(kind, stored), number, take)
                many = min(MANY, 4 * options.events)
                take = partial(_memory, places, kind, many // FRACTION, many)
                results.measure(named(TEMPLATE, kind), number, take)
    for kind in options.databases:
        results.compare(RATE, _with_stored(kind, options.stored), _with_stored(kind, 0))
    results.note(f"stored events have a body of {len(body(''))} bytes, as those that are sent")
    results.note("bytes an event: of the table of events and its indexes")
    results.note("resident MB: of the web process, after the effects of so many events")
    return results


def _with_stored(kind: str, stored: int) -> str:
    return f"{named(TEMPLATE, kind)}, {stored:,} stored"


def _speed(places: Homes, kind: str, stored: int, events: int) -> dict[str, float]:
    values: dict[str, float] = {}
    with running(places, TEMPLATE, kind) as service:
        if stored:
            empty = _bytes_used(service.database)
            _store(service.database, stored)
            values["bytes an event"] = (_bytes_used(service.database) - empty) / stored
        service.take_effect(WARM_UP)
        seconds, answers = service.take_effect(events)
    return {RATE: events / seconds, "ack p99 ms": percentile_99(answers)} | values


def _memory(places: Homes, kind: str, few: int, many: int) -> dict[str, float]:
    values: dict[str, float] = {}
    received = 0
    with running(places, TEMPLATE, kind) as service:
        for goal in (few, many):
            while received < goal:
                some = min(goal - received, AT_A_TIME)
                service.take_effect(some)
                received += some
            values[f"resident MB, {goal:,} events"] = service.resident_megabytes()
    return values


def _store(database: Database, number: int) -> None:
    """Add done events directly, without the service."""
    values = {"number": number, "payload": body("evt_stored"), "now": time.time()}
    if database.url.startswith(SQLITE):
        with closing(sqlite3.connect(database.file, timeout=60)) as connection:
            connection.execute(SQLITE_INSERT, values)
            connection.commit()
        return
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(POSTGRESQL_INSERT.encode(), values)
        connection.execute("VACUUM ANALYZE webhook_events")
        connection.execute("CHECKPOINT")  # or it would come while others are measured


def _bytes_used(database: Database) -> int:
    if database.url.startswith(SQLITE):
        with closing(sqlite3.connect(database.file, timeout=60)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return database.file.stat().st_size
    [(size,)] = database.rows("SELECT pg_total_relation_size('webhook_events')")
    assert isinstance(size, int)
    return size
