"""Servers are taken away under load: what was acknowledged is kept, and handled when they return.

No process may end meanwhile, for nothing here would start it again. CHAOS_OUTAGE_SECONDS is how
long a server is away: 6 unless it is set.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Figures
from live.databases import Database, sqlite_database
from live.sender import SEED, Answer, Sender, deliver, flood, percentile_99
from live.servers import (
    OWN_BROKERS,
    PostgreSQL,
    RabbitMQ,
    SmallDisk,
    demoted,
    frozen,
    read_only,
    stopped,
)
from live.service import (
    ACK_DEADLINE,
    EACH_PROCESSING,
    ON_SQLITE,
    RECOVERY,
    SLACK,
    WITH_BROKER,
    Setup,
    account,
)

from attacks.conftest import Run

OUTAGE = float(os.environ.get("CHAOS_OUTAGE_SECONDS") or 6)
UP = 3  # seconds of load before and after
PAUSE = 0.15  # seconds between the events of a sender: one worker keeps up on a busy machine
BACKLOG = 400  # events: more than a worker holds
REQUEUE_AFTER = 40  # seconds: twice as long as a backlog may take

# The parts of a shutdown: requests, handlers, and all else. Their sum is the bound.
REQUESTS_SECONDS = 5
GRACE_SECONDS = 1
ENDING_SECONDS = 5

Away = Callable[[Any], AbstractContextManager[None]]

RABBITMQ = [setup for setup in WITH_BROKER if setup.broker == "rabbitmq"]


def between(sender: Sender, begin: float, end: float) -> list[Answer]:
    """Return the answers to what was sent in a time, and also answered in it."""
    return [each for each in sender.answers if begin <= each.begun and each.ended <= end]


def name(value: Setup | Away) -> str:
    return str(value) if isinstance(value, Setup) else value.__name__


BROKERS_AWAY = [
    (setup, away)
    for setup in WITH_BROKER
    for away in (stopped, frozen, demoted)
    if away is not demoted or setup.broker == "redis"
]


@pytest.mark.parametrize(("setup", "away"), BROKERS_AWAY, ids=name)
def test_without_its_broker_the_service_acknowledges_as_ever_and_catches_up(
    run: Run, tmp_path: Path, figures: Figures, setup: Setup, away: Away
) -> None:
    figures(seed=SEED)
    with (
        OWN_BROKERS[setup.broker](tmp_path) as broker,
        run(setup, webs=2, broker=broker.url) as service,
    ):
        with Sender(service.ports, pause=PAUSE) as sender:
            time.sleep(UP)
            gone = time.time()
            with away(broker):
                time.sleep(OUTAGE)
                waiting = service.database.count("state = 'pending'")
                back = time.time()
            returned = time.time()
            time.sleep(UP)
        # A worker may wait before it connects anew for as long as it has tried. Then it has as much
        # to catch up with as came meanwhile.
        within = RECOVERY + 2 * (returned - gone)
        figures(waiting=waiting, seconds_until_handled=service.seconds_until_handled(within))
        up, down = between(sender, 0, gone), between(sender, gone, back)
        figures(p99_up=percentile_99(up), p99_down=percentile_99(down))
        figures(**account(service.database, sender.answers))
    assert waiting
    assert {answer.status for answer in sender.answers} == {200}
    assert max(answer.seconds for answer in down) < ACK_DEADLINE


@pytest.mark.parametrize("setup", RABBITMQ, ids=str)
def test_a_handler_that_outlasts_rabbitmqs_consumer_timeout_ends_no_worker(
    run: Run, tmp_path: Path, figures: Figures, setup: Setup
) -> None:
    handler = """
        if event.type == "slow":
            await asyncio.sleep(8)
        await leave_effect(event)
    """
    with (
        RabbitMQ(tmp_path, consumer_timeout=2) as broker,
        run(
            setup, handler, broker=broker.url, settings={"HANDLER_TIMEOUT_SECONDS": "20"}
        ) as service,
    ):
        answers = deliver(service.ports, "evt_slow", "slow")
        with Sender(service.ports, pause=PAUSE) as sender:
            time.sleep(10)
        figures(seconds_until_handled=service.seconds_until_handled())
        figures(**account(service.database, answers + sender.answers))
        assert service.database.count("attempts > 1") == 0


def check_refusals(sender: Sender, gone: float, back: float) -> dict[str, object]:
    """Fail unless what could not be kept was refused as promised; return the figures."""
    refused = [answer for answer in sender.answers if answer.status == 503]
    assert refused
    assert all(answer.retry_after for answer in refused)
    assert {answer.status for answer in sender.answers} == {200, 503}
    slowest = max(answer.seconds for answer in sender.answers)
    assert slowest < ACK_DEADLINE + SLACK
    later = [each.ended for each in sender.answers if each.is_acknowledged and each.ended > back]
    return {
        "p99 up": percentile_99(between(sender, 0, gone)),
        "slowest": round(1000 * slowest),
        "acknowledged again after": round(min(later) - back, 1),
    }


@pytest.mark.parametrize("away", [stopped, frozen, read_only], ids=name)
@pytest.mark.parametrize("setup", EACH_PROCESSING, ids=str)
def test_without_postgresql_the_service_refuses_in_time_and_recovers_by_itself(
    run: Run, figures: Figures, setup: Setup, away: Away
) -> None:
    figures(seed=SEED)
    with PostgreSQL() as store, run(setup, webs=2, database=store.database) as service:
        with Sender(service.ports, pause=PAUSE) as sender:
            time.sleep(UP)
            begun = time.time()
            with away(store):
                gone = time.time()
                time.sleep(OUTAGE)
                back = time.time()
            time.sleep(UP)
        figures(seconds_until_handled=service.seconds_until_handled())
        assert {answer.status for answer in between(sender, gone, back)} == {503}
        figures(**check_refusals(sender, begun, back))
        figures(**account(service.database, sender.answers))
        store.check_indexes()


@contextmanager
def locked(database: Database) -> Iterator[None]:
    connection = sqlite3.connect(database.file, isolation_level=None)
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("ROLLBACK")
    connection.close()


@contextmanager
def full(disk: SmallDisk) -> Iterator[None]:
    disk.fill()
    yield
    disk.clear()


def check_without_sqlite(
    run: Run, figures: Figures, setup: Setup, database: Database, harm: AbstractContextManager[None]
) -> set[int]:
    """Run with the database away for a while, and return the statuses of that time."""
    figures(seed=SEED)
    with run(setup, webs=2, database=database) as service:
        with Sender(service.ports, pause=PAUSE) as sender:
            time.sleep(UP)
            begun = time.time()
            with harm:
                gone = time.time()
                time.sleep(OUTAGE)
                back = time.time()
            time.sleep(UP)
        figures(seconds_until_handled=service.seconds_until_handled())
        figures(**check_refusals(sender, begun, back))
        figures(**account(database, sender.answers))
        assert database.rows("PRAGMA integrity_check") == [("ok",)]
    return {answer.status for answer in between(sender, gone, back)}


@pytest.mark.parametrize("setup", ON_SQLITE[:2], ids=str)
def test_while_sqlite_is_locked_the_service_refuses_in_time_and_recovers_by_itself(
    run: Run, tmp_path: Path, figures: Figures, setup: Setup
) -> None:
    with sqlite_database(tmp_path) as database:
        assert check_without_sqlite(run, figures, setup, database, locked(database)) == {503}


def test_on_a_full_disk_the_service_refuses_in_time_and_recovers_by_itself(
    run: Run, tmp_path: Path, figures: Figures
) -> None:
    with SmallDisk(tmp_path / "disk") as disk, sqlite_database(disk.folder) as database:
        # What fits into the existing write-ahead log is still kept, and acknowledged.
        assert 503 in check_without_sqlite(run, figures, ON_SQLITE[0], database, full(disk))


@pytest.mark.parametrize("setup", WITH_BROKER, ids=str)
def test_a_backlog_goes_on_as_soon_as_postgresql_is_back(
    run: Run, figures: Figures, setup: Setup
) -> None:
    """The workers have not used up their messages meanwhile: their events would wait for long."""
    event_ids = [f"evt_{number:024x}" for number in range(BACKLOG)]
    settings = {"REQUEUE_AFTER_SECONDS": str(REQUEUE_AFTER)}
    with (
        PostgreSQL() as store,
        run(setup, database=store.database, settings=settings) as service,
    ):
        answers = flood(service.port, event_ids, size=1000)
        with stopped(store):
            time.sleep(OUTAGE)
        waiting = service.database.count("state = 'pending'")
        assert waiting > BACKLOG / 2
        # A dispatch that was committed, and of which nobody heard, is repeated only later.
        few = BACKLOG // 10
        figures(waiting=waiting)
        figures(seconds_until_few_wait=service.seconds_until_handled(REQUEUE_AFTER / 2, few))
        figures(seconds_until_handled=service.seconds_until_handled(REQUEUE_AFTER + RECOVERY))
        figures(**account(service.database, answers))


def check_shutdown(
    run: Run, figures: Figures, setup: Setup, frozen_server: Any, given: Any
) -> None:
    """Fail if a process does not end in time while a server hangs, or if anything is lost."""
    settings = {"GRACE_PERIOD_SECONDS": str(GRACE_SECONDS)}
    with run(setup, settings=settings, **given) as service:
        with Sender(service.ports, pause=PAUSE) as sender:
            time.sleep(UP)
            with frozen(frozen_server):
                time.sleep(1)
                seconds_until_ended = service.end()
            service.start_again()
        figures(seconds_until_handled=service.seconds_until_handled())
        figures(
            seconds_until_ended=seconds_until_ended, **account(service.database, sender.answers)
        )
    assert seconds_until_ended < REQUESTS_SECONDS + GRACE_SECONDS + ENDING_SECONDS + SLACK


@pytest.mark.parametrize("setup", EACH_PROCESSING, ids=str)
def test_a_shutdown_ends_though_postgresql_hangs_and_loses_nothing(
    run: Run, figures: Figures, setup: Setup
) -> None:
    with PostgreSQL() as store:
        check_shutdown(run, figures, setup, store, {"database": store.database})


@pytest.mark.parametrize("setup", WITH_BROKER, ids=str)
def test_a_shutdown_ends_though_the_broker_hangs_and_loses_nothing(
    run: Run, tmp_path: Path, figures: Figures, setup: Setup
) -> None:
    with OWN_BROKERS[setup.broker](tmp_path) as broker:
        check_shutdown(run, figures, setup, broker, {"broker": broker.url})
