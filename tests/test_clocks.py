"""Hosts whose clocks differ share a database, and none takes another's lease."""

import os
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from chaos import (
    LEASE,
    LONGEST_HANDOVER,
    SETUPS,
    FreshService,
    Setup,
    deliver,
    recording_copy,
    seconds_until_empty,
    surroundings,
)
from conftest import Figures, Install

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

# RabbitMQ keeps no time.
SHARED = [setup for setup in SETUPS if setup.broker != "rabbitmq"]
EVENTS = 22  # in the end there are fewer than may be handled: who is idle could take them
TEN_MINUTES = 600  # seconds

# Python runs this before anything else. What C reads of the clock is not shifted: with SQLite, that
# would be the database's clock, which all of its processes share, for they share a host.
SHIFT = """
import os, time

true = time.time
time.time = lambda: true() + float(os.environ["CLOCK_IS_FAST_BY"])
"""

# Takes long enough for a lease to be taken away, and notes what time it is there.
HANDLER = '''"""What the tests have done about an event."""

import asyncio
import time

import sqlalchemy as sa

from app.database import metadata
from app.events import Event

effects = sa.Table("effects", metadata, sa.Column("clock", sa.Double, nullable=False))


async def handle(event: Event) -> None:
    await asyncio.sleep(1)
    async with event.transaction() as db:
        await db.execute(effects.insert().values(clock=time.time()))
'''


@pytest.mark.parametrize("setup", SHARED, ids=str)
def test_clocks_that_differ_by_ten_minutes_take_no_lease_away(
    setup: Setup, install: Install, tmp_path: Path, figures: Figures
) -> None:
    project = recording_copy(install, setup.processing, tmp_path, HANDLER)
    (tmp_path / "sitecustomize.py").write_text(SHIFT, encoding="utf-8")
    with surroundings(setup, tmp_path) as (database, environment), ExitStack() as stack:
        environment |= {"PYTHONPATH": str(tmp_path), "CONCURRENCY": "4"}

        def start(apis: int, workers: int, fast_by: int) -> FreshService:
            own = environment | {"CLOCK_IS_FAST_BY": str(fast_by)}
            return stack.enter_context(
                FreshService(project, setup.processing, apis, workers, **own)
            )

        right = start(1, 1, 0)
        for fast_by in (TEN_MINUTES, -TEN_MINUTES):
            start(0 if setup.broker else 1, 1, fast_by)
        for number in range(EVENTS):
            assert [answer.status for answer in deliver(right.ports, f"evt_{number}")] == [200]
        seconds_until_empty(database, LEASE + LONGEST_HANDOVER + EVENTS)
        assert database.count("attempts = 1 AND state = 'done'") == EVENTS
        clocks = [clock for (clock,) in database.rows("SELECT clock FROM effects")]
    ahead = (float(str(clock)) - time.time() for clock in clocks)
    shares = Counter(round(seconds / TEN_MINUTES) for seconds in ahead)
    figures(handled_by_slow_right_and_fast=[shares[host] for host in (-1, 0, 1)])
    assert len(clocks) == EVENTS
    assert shares.keys() == {-1, 0, 1}  # all three have taken part
