"""Servers are taken away under load: what was acknowledged is kept, and handled when they return.

Brokers and PostgreSQL are the test's own processes. A disk is full for real: it is a small tmpfs,
which root may mount, or who may use sudo without a password. CHAOS_OUTAGE_SECONDS is how long each
is away: 6 unless it is set.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from chaos import (
    ACK_DEADLINE,
    LEASE,
    LONGEST_HANDOVER,
    SEED,
    SETUPS,
    SLACK,
    Answer,
    Provider,
    Service,
    Setup,
    account,
    flood,
    percentile_99,
    recording_copy,
    seconds_until_empty,
    surroundings,
)
from conftest import Figures, Install
from live import DATABASES, Database, sqlite_database
from project import Project
from servers import OWN_BROKERS, Broker, PostgreSQL, SmallDisk, silent

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

OUTAGE = float(os.environ.get("CHAOS_OUTAGE_SECONDS") or 6)
UP = 3  # seconds of load before and after
GRACE = 5  # seconds that uvicorn waits for requests at a shutdown
DRAIN = 1  # second that handlers may go on then
ENDING = 5  # seconds that all else may take
BACKLOG = 700  # events; more than a process has in the queue
HANDOVER = 120  # seconds; longer than it all takes
PAUSE = 0.15  # seconds between a sender's events: one worker keeps up on a busy machine

Harm = AbstractContextManager[None]


@contextmanager
def stopped(server: Broker | PostgreSQL) -> Iterator[None]:
    server.stop()
    yield
    server.start()


@contextmanager
def frozen(server: Broker | PostgreSQL) -> Iterator[None]:
    server.freeze()
    yield
    server.thaw()


@contextmanager
def replaced_by_silence(server: Broker) -> Iterator[None]:
    server.stop()
    with silent(server.port):
        yield
    server.start()


@contextmanager
def read_only(server: PostgreSQL) -> Iterator[None]:
    server.set_read_only(True)
    yield
    server.set_read_only(False)


BROKER_WAYS = [stopped, frozen, replaced_by_silence]
BROKERS = [setup for setup in SETUPS if setup.broker in OWN_BROKERS]
STORE_WAYS = [stopped, frozen, read_only]
STORES = [setup for setup in SETUPS if setup.database == "postgresql"]


def between(provider: Provider, begin: float, end: float) -> list[Answer]:
    """Return the answers to what was sent in a time, and also answered in it."""
    return [each for each in provider.answers if begin <= each.begun and each.ended <= end]


@pytest.mark.parametrize("away", BROKER_WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("setup", BROKERS, ids=str)
def test_without_its_broker_the_service_acknowledges_as_ever_and_catches_up(
    install: Install,
    tmp_path: Path,
    figures: Figures,
    setup: Setup,
    away: Callable[[Broker], Harm],
) -> None:
    figures(seed=SEED)
    project = recording_copy(install, setup.processing, tmp_path)
    folder = tmp_path / "broker"
    folder.mkdir()
    with (
        DATABASES[setup.database](tmp_path) as database,
        OWN_BROKERS[setup.broker](folder) as server,
        Service(
            project, setup.processing, 2, 1, DATABASE_URL=database.url, BROKER_URL=server.url
        ) as service,
    ):
        with Provider(service.ports, pause=PAUSE) as provider:
            time.sleep(UP)
            gone = time.time()
            with away(server):
                time.sleep(OUTAGE)
                waiting = database.count("state = 'pending'")
                back = time.time()
            returned = time.time()
            service.keep()
            time.sleep(UP)
        service.check(workers=False)
        # A worker may wait before it connects anew for as long as it has tried; then it has as much
        # to catch up with as came meanwhile. A broker is away until it has begun again.
        within = LONGEST_HANDOVER + 2 * (returned - gone) + 20
        figures(
            waiting=waiting, seconds_until_empty=seconds_until_empty(database, within, service.keep)
        )
        up, down = between(provider, 0, gone), between(provider, gone, back)
        figures(p99_up=percentile_99(up), p99_down=percentile_99(down))
        figures(**account(database, provider.answers))
    assert waiting
    met = [answer for answer in provider.answers if answer.begun < back and answer.ended > gone]
    assert {answer.status for answer in met} == {200}
    assert [answer for answer in provider.answers if not answer.status] == []
    assert max(answer.seconds for answer in down) < ACK_DEADLINE


def check_refusals(provider: Provider, gone: float, back: float) -> dict[str, object]:
    """Fail unless what could not be kept was refused as promised; return the figures."""
    refused = [answer for answer in provider.answers if answer.status == 503]
    assert refused
    assert [answer for answer in provider.answers if answer.status not in (200, 503)] == []
    assert all(answer.retry_after for answer in refused)
    slowest = max(answer.seconds for answer in provider.answers)
    assert slowest < ACK_DEADLINE + SLACK
    again = min(a.ended for a in provider.answers if a.status == 200 and a.ended > back)
    return {
        "p99 up": percentile_99(between(provider, 0, gone)),
        "slowest": round(1000 * slowest),
        "acknowledged again after": round(again - back, 1),
    }


@pytest.mark.parametrize("away", STORE_WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("setup", STORES, ids=str)
def test_without_postgresql_the_service_refuses_in_time_and_recovers_by_itself(
    install: Install,
    tmp_path: Path,
    figures: Figures,
    setup: Setup,
    away: Callable[[PostgreSQL], Harm],
) -> None:
    figures(seed=SEED)
    project = recording_copy(install, setup.processing, tmp_path)
    with (
        PostgreSQL() as server,
        surroundings(setup, tmp_path, Database(server.url)) as (database, environment),
        Service(project, setup.processing, 2, 1, **environment) as service,
    ):
        with Provider(service.ports, pause=PAUSE) as provider:
            time.sleep(UP)
            begun = time.time()
            with away(server):
                gone = time.time()
                time.sleep(OUTAGE)
                back = time.time()
            time.sleep(UP)
        within = LEASE + LONGEST_HANDOVER + 10
        figures(seconds_until_empty=seconds_until_empty(database, within, service.check))
        service.check()
        assert {answer.status for answer in between(provider, gone, back)} == {503}
        figures(**check_refusals(provider, begun, back))
        figures(**account(database, provider.answers))
        server.check()


@pytest.mark.parametrize("setup", STORES, ids=str)
def test_a_backlog_goes_on_as_soon_as_postgresql_is_back(
    install: Install, tmp_path: Path, figures: Figures, setup: Setup
) -> None:
    """The workers have not spent the messages meanwhile: their events would wait for long."""
    project = recording_copy(install, setup.processing, tmp_path)
    ids = [f"evt_{number:024x}" for number in range(BACKLOG)]
    with (
        PostgreSQL() as server,
        surroundings(setup, tmp_path, Database(server.url)) as (database, environment),
        Service(
            project, setup.processing, 1, 1, **environment | {"HANDOVER_SECONDS": str(HANDOVER)}
        ) as service,
    ):
        answers = flood(service.ports[0], ids, 1000)
        with stopped(server):
            time.sleep(OUTAGE)
        waiting = database.count("state = 'pending'")
        assert waiting > BACKLOG / 2
        figures(waiting=waiting)
        # But for the few of a hand-over that was committed and never heard of.
        figures(seconds_until_done=seconds_until_empty(database, HANDOVER / 2, at_most=16))
        figures(seconds_until_empty=seconds_until_empty(database, 3 * HANDOVER))
        service.check()
        figures(**account(database, answers))


@pytest.mark.parametrize("setup", STORES, ids=str)
def test_a_shutdown_ends_though_postgresql_hangs_and_loses_nothing(
    install: Install, tmp_path: Path, figures: Figures, setup: Setup
) -> None:
    figures(seed=SEED)
    project = recording_copy(install, setup.processing, tmp_path)
    with (
        PostgreSQL() as server,
        surroundings(setup, tmp_path, Database(server.url)) as (database, environment),
        Service(
            project, setup.processing, 1, 1, DRAIN_SECONDS=str(DRAIN), **environment
        ) as service,
    ):
        with Provider(service.ports, pause=PAUSE) as provider:
            time.sleep(UP)
            with frozen(server):
                time.sleep(1)
                seconds_until_ended = service.end()
            service.keep(apis=True)
            service.wait_until_at_work()
        within = LEASE + LONGEST_HANDOVER + 10
        figures(seconds_until_empty=seconds_until_empty(database, within, service.check))
        figures(seconds_until_ended=seconds_until_ended, **account(database, provider.answers))
    assert seconds_until_ended < GRACE + DRAIN + ENDING + SLACK


@contextmanager
def locked(database: Database) -> Iterator[None]:
    connection = sqlite3.connect(database.url.removeprefix("sqlite:///"), isolation_level=None)
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
    project: Project, setup: Setup, folder: Path, figures: Figures, own: Database, harm: Harm
) -> set[int]:
    """Run with the database away for a while, and return the statuses of that time."""
    with (
        surroundings(setup, folder, own) as (database, environment),
        Service(project, setup.processing, apis=2, workers=1, **environment) as service,
    ):
        with Provider(service.ports, pause=PAUSE) as provider:
            time.sleep(UP)
            begun = time.time()
            with harm:
                gone = time.time()
                time.sleep(OUTAGE)
                back = time.time()
            time.sleep(UP)
        within = LEASE + LONGEST_HANDOVER + 10
        figures(seconds_until_empty=seconds_until_empty(database, within, service.check))
        service.check()
        figures(**check_refusals(provider, begun, back))
        figures(**account(database, provider.answers))
        assert database.rows("PRAGMA integrity_check") == [("ok",)]
    return {answer.status for answer in between(provider, gone, back)}


ON_SQLITE = [setup for setup in SETUPS if setup.database == "sqlite"]


@pytest.mark.parametrize("setup", ON_SQLITE, ids=str)
def test_while_sqlite_is_locked_the_service_refuses_in_time_and_recovers_by_itself(
    install: Install, tmp_path: Path, figures: Figures, setup: Setup
) -> None:
    figures(seed=SEED)
    project = recording_copy(install, setup.processing, tmp_path)
    with sqlite_database(tmp_path) as database:
        harm = locked(database)
        assert check_without_sqlite(project, setup, tmp_path, figures, database, harm) == {503}


@pytest.mark.parametrize("setup", ON_SQLITE, ids=str)
def test_on_a_full_disk_the_service_refuses_in_time_and_recovers_by_itself(
    install: Install, tmp_path: Path, figures: Figures, setup: Setup
) -> None:
    figures(seed=SEED)
    project = recording_copy(install, setup.processing, tmp_path)
    with SmallDisk(tmp_path / "disk") as disk, sqlite_database(disk.folder) as database:
        # What fits into the write-ahead log as large as it is already is kept, and acknowledged.
        harm = full(disk)
        assert 503 in check_without_sqlite(project, setup, tmp_path, figures, database, harm)
