"""Many at once: processes on an empty database, and deliveries of one event."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from chaos import (
    LEASE,
    LONGEST_HANDOVER,
    SETUPS,
    Service,
    Setup,
    deliver,
    recording_copy,
    seconds_until_empty,
    surroundings,
)
from conftest import Figures, Install
from live import PYTHON, Database

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

# Fills the queue with the keys of another database, as one leaves it that was replaced: so the
# workers, too, come upon the empty one as soon as they begin.
OLD_MESSAGES = """
import asyncio
from contextlib import asynccontextmanager
from app.models import Key
from app.queue import enqueue

class OldInbox:
    @asynccontextmanager
    async def handover(self):
        yield [Key(id, 0) for id in range(1001, 1101)]

asyncio.run(enqueue(OldInbox()))
"""


@dataclass(frozen=True)
class Crowd:
    """Eight processes, half of them workers if there are any, that have begun at once."""

    service: Service
    database: Database


@pytest.fixture(scope="module", params=SETUPS, ids=str)
def crowd(
    request: pytest.FixtureRequest, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crowd]:
    setup: Setup = request.param
    folder = tmp_path_factory.mktemp("crowd")
    project = recording_copy(install, setup.processing, folder)
    workers = 4 if setup.broker else 0
    with surroundings(setup, folder) as (database, environment):
        # The sender is on the same machine, and makes it busy.
        environment |= {"ACK_DEADLINE_SECONDS": "10"}
        if workers:
            project.run(f"{PYTHON[:-3]}-c {shlex.quote(OLD_MESSAGES)}", 60, **environment)
        with Service(project, setup.processing, 8 - workers, workers, **environment) as service:
            yield Crowd(service, database)


def test_eight_processes_that_begin_at_once_on_an_empty_database_all_acknowledge(
    crowd: Crowd,
) -> None:
    for port in crowd.service.ports:
        assert [answer.status for answer in deliver([port], f"evt_{port}")] == [200]
    seconds_until_empty(crowd.database, LEASE + LONGEST_HANDOVER)
    crowd.service.check()
    assert "the database did not commit" not in crowd.service.printed
    assert crowd.database.count("state = 'done'") == len(crowd.service.ports)


def test_five_hundred_deliveries_of_one_event_are_acknowledged_and_handled_once(
    crowd: Crowd, figures: Figures
) -> None:
    answers = deliver(crowd.service.ports[:4], "evt_1", times=500)
    figures(slowest=f"{1000 * max(answer.seconds for answer in answers):.0f} ms")
    seconds_until_empty(crowd.database, LEASE + LONGEST_HANDOVER)
    assert [answer for answer in answers if answer.status != 200] == []
    ours = "event_id = 'evt_1'"
    assert crowd.database.rows(f"SELECT state FROM inbox WHERE {ours}") == [("done",)]  # noqa: S608
    assert crowd.database.rows(f"SELECT 1 FROM effects WHERE {ours}") == [(1,)]  # noqa: S608
