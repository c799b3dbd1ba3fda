"""Processes are killed under load: nothing is lost, nothing is done twice, nothing is in the way.

CHAOS_KILLS=500 uv run pytest tests/test_kills.py    is the long form: 20 kills unless it is set.
"""

import os
import random
from functools import partial
from pathlib import Path

import pytest
from chaos import (
    ACK_DEADLINE,
    LEASE,
    LONGEST_HANDOVER,
    SEED,
    SETUPS,
    FreshService,
    Provider,
    Service,
    Setup,
    account,
    flood,
    recording_copy,
    seconds_until_empty,
    surroundings,
)
from conftest import Figures, Install
from live import Database, wait_for

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

LONG = bool(os.environ.get("CHAOS_KILLS"))
KILLS = int(os.environ.get("CHAOS_KILLS") or 20)
WITH_QUEUE = [setup for setup in SETUPS if setup.broker]
HANDS = 20  # events that a worker attempts at the same time

# Ends when it is let, and then leaves a row.
HANDLER = '''"""Holds its event for as long as the tests want."""

import asyncio
import os
from pathlib import Path

import sqlalchemy as sa

from app.database import metadata
from app.events import Event

effects = sa.Table("effects", metadata, sa.Column("event_id", sa.Text, nullable=False))
let = Path(os.environ["LET"])


async def handle(event: Event) -> None:
    while not let.exists():
        await asyncio.sleep(0.1)
    async with event.transaction() as db:
        await db.execute(effects.insert().values(event_id=event.id))
'''


@pytest.mark.parametrize("setup", SETUPS, ids=str)
def test_whatever_is_killed_every_event_is_done_exactly_once(
    setup: Setup, install: Install, tmp_path: Path, figures: Figures
) -> None:
    chance = random.Random(SEED)  # noqa: S311
    figures(seed=SEED, kills=KILLS)
    project = recording_copy(install, setup.processing, tmp_path)
    start = FreshService if LONG else Service
    with (
        surroundings(setup, tmp_path) as (database, environment),
        start(project, setup.processing, 2, 2, **environment) as service,
    ):
        with Provider(service.ports) as provider:
            for _ in range(KILLS):
                service.kill_one(chance)
            service.wait_until_at_work()
        # The last one killed may hold a lease, or have taken a message with it.
        within = LEASE + LONGEST_HANDOVER + 10
        figures(seconds_until_empty=seconds_until_empty(database, within, service.keep))
        figures(**account(database, provider.answers))


def have_begun(database: Database, number: int) -> bool:
    return database.rows("SELECT coalesce(sum(attempts), 0) FROM inbox") >= [(number,)]


@pytest.mark.parametrize("setup", WITH_QUEUE, ids=str)
def test_what_killed_workers_held_is_in_nobodys_way(
    setup: Setup, install: Install, tmp_path: Path, figures: Figures
) -> None:
    project = recording_copy(install, setup.processing, tmp_path, HANDLER)
    let = tmp_path / "let"
    extra = {"LET": str(let), "CONCURRENCY": str(HANDS), "HANDLER_TIMEOUT_SECONDS": "4"}
    with (
        surroundings(setup, tmp_path) as (database, environment),
        Service(project, setup.processing, 1, 1, **environment, **extra) as service,
    ):
        answers = flood(service.ports[0], [f"evt_{number:024x}" for number in range(150)], 1)
        for held in range(HANDS, 7 * HANDS, HANDS):
            wait_for(partial(have_begun, database, held), "a worker to have its hands full")
            service.kill_worker()
        let.touch()
        within = 2 * (4 + ACK_DEADLINE) + LONGEST_HANDOVER + 10
        figures(seconds_until_empty=seconds_until_empty(database, within))
        figures(**account(database, answers))
