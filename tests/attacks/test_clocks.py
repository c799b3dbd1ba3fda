"""Hosts whose clocks differ share a database, and none takes another's lease."""

import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import Figures
from live.sender import deliver
from live.service import EACH_PROCESSING, RECOVERY, Setup

from attacks.conftest import Run

EVENTS = 22  # fewer than all hosts may handle at a time: one that is idle could take a lease
TEN_MINUTES = 600  # seconds

# Python runs this before anything else.
SHIFT = """
import os, time

true = time.time
time.time = lambda: true() + float(os.environ["CLOCK_IS_FAST_BY"])
"""

# Takes long enough for a lease to be taken away, and notes what time it is there.
HANDLER = """
    await asyncio.sleep(1)
    async with event.transaction() as db:
        clock = str(time.time())
        await db.execute(effects.insert().values(event_id=clock))
"""


@pytest.mark.parametrize("setup", EACH_PROCESSING, ids=str)
def test_clocks_that_differ_by_ten_minutes_take_no_lease_away(
    setup: Setup, run: Run, tmp_path: Path, figures: Figures
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHIFT, encoding="utf-8")
    settings = {
        "PYTHONPATH": str(tmp_path),
        "CLOCK_IS_FAST_BY": "0",
        "CONCURRENCY": "4",
        "HANDLER_TIMEOUT_SECONDS": "3",
    }
    with ExitStack() as stack:
        right = stack.enter_context(run(setup, HANDLER, settings=settings))
        for fast_by in (TEN_MINUTES, -TEN_MINUTES):
            webs = 0 if setup.broker else 1
            host = right.another(webs=webs, settings={"CLOCK_IS_FAST_BY": str(fast_by)})
            stack.enter_context(host)
        for number in range(EVENTS):
            assert [answer.status for answer in deliver(right.ports, f"evt_{number}")] == [200]
        right.seconds_until_handled(RECOVERY + EVENTS)
        assert right.database.count("attempts = 1 AND state = 'done'") == EVENTS
        clocks = [float(str(clock)) for (clock,) in right.database.rows("SELECT * FROM effects")]
    hosts = Counter(round((clock - time.time()) / TEN_MINUTES) for clock in clocks)
    figures(handled_by_slow_right_and_fast=[hosts[host] for host in (-1, 0, 1)])
    assert len(clocks) == EVENTS
    assert hosts.keys() == {-1, 0, 1}  # all three have taken part
