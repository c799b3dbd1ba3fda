"""Far more events than a slow handler can take: all are kept, and no process grows with them.

FLOOD_EVENTS=100000 uv run pytest tests/test_flood.py    is the long form: 1,000 unless it is set.
"""

import os
from pathlib import Path

import pytest
from chaos import (
    LEASE,
    SETUPS,
    SLACK,
    FreshService,
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
from live import wait_for

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

EVENTS = int(os.environ.get("FLOOD_EVENTS") or 1000)
DRAIN = 5  # seconds that a shutdown waits for handlers
GRACE = 5  # seconds that uvicorn waits for requests before
HANDOVER = 10  # seconds
BYTES = max(1000, 40_000_000 // EVENTS)  # of an event; less than all of them is to be in memory
GROWTH = 1.15  # at most; had a process all of them, it would be 1.4

HANDLER = '''"""Takes its time, and leaves a row."""

import asyncio
import os

import sqlalchemy as sa

from app.database import metadata
from app.events import Event

effects = sa.Table("effects", metadata, sa.Column("event_id", sa.Text, nullable=False))


async def handle(event: Event) -> None:
    await asyncio.sleep(float(os.environ["HANDLER_SECONDS"]))
    async with event.transaction() as db:
        await db.execute(effects.insert().values(event_id=event.id))
'''


@pytest.mark.parametrize("setup", SETUPS, ids=str)
def test_a_flood_into_a_slow_handler_is_kept_and_does_not_grow_in_memory(
    setup: Setup, install: Install, tmp_path: Path, figures: Figures
) -> None:
    if setup.broker == "folder" and EVENTS > 10_000:
        pytest.skip("for each message of the development broker its whole folder is listed")
    project = recording_copy(install, setup.processing, tmp_path, HANDLER)
    ids = [f"evt_{number:024x}" for number in range(EVENTS)]
    warm, tenth = EVENTS // 20, EVENTS // 10
    with surroundings(setup, tmp_path) as (database, environment):
        environment |= {"DRAIN_SECONDS": str(DRAIN), "HANDOVER_SECONDS": str(HANDOVER)}
        environment |= {"ACK_DEADLINE_SECONDS": "10"}  # the sender makes the machine busy
        # Fresh: what a fork shares with its parent is not its own memory.
        slow = FreshService(project, setup.processing, 1, 1, HANDLER_SECONDS="1", **environment)
        with slow as service:
            [port] = service.ports
            answers = flood(port, ids[:warm], BYTES)
            # Only then has each process loaded all that it ever does.
            wait_for(lambda: database.count("state = 'done'") >= 20, "the first to be done")
            first = flood(port, ids[warm:tenth], BYTES)
            early = service.resident_megabytes()
            first += flood(port, ids[tenth : tenth + warm], BYTES)
            answers += first + flood(port, ids[tenth + warm : -tenth], BYTES)
            last = flood(port, ids[-tenth:], BYTES)
            answers += last
            late = service.resident_megabytes()
            figures(megabytes_at_10_percent=early, megabytes_at_100_percent=late)
            figures(p99_ms_at_first=percentile_99(first), p99_ms_at_last=percentile_99(last))
            seconds_until_ended = service.end()
            figures(handled_meanwhile=database.count("state = 'done'"))
            figures(seconds_until_ended=seconds_until_ended)
        under_way = database.count("state = 'pending' AND attempts > 0")

        with Service(project, setup.processing, 1, 1, HANDLER_SECONDS="0", **environment):
            within = 2 * LEASE + 20 * HANDOVER + EVENTS / 20
            figures(seconds_until_empty=seconds_until_empty(database, within))
        figures(**account(database, answers))

    growth = [after / before for before, after in zip(early, late, strict=True)]
    assert max(growth) < GROWTH
    assert seconds_until_ended < GRACE + DRAIN + SLACK
    assert under_way == 0
