"""Far more events than a slow handler can take: all are kept, and no process grows with them.

FLOOD_EVENTS=100000 uv run pytest tests/attacks/test_flood.py    is the long form: 1,000 by default.
"""

import os

import pytest
from conftest import Figures
from live.processes import wait_for
from live.sender import flood, percentile_99
from live.service import FEW_SETUPS, RECOVERY, SLACK, Setup, account

from attacks.conftest import Run

EVENTS = int(os.environ.get("FLOOD_EVENTS") or 1000)
BYTES = max(1000, 40_000_000 // EVENTS)  # of an event; less than all of them is to be in memory
GROWTH = 1.15  # at most; had a process all of them, it would be 1.4
REQUESTS_SECONDS = 5
GRACE_SECONDS = 5


@pytest.mark.parametrize("setup", FEW_SETUPS, ids=str)
def test_a_flood_into_a_slow_handler_is_kept_and_does_not_grow_in_memory(
    setup: Setup, run: Run, figures: Figures
) -> None:
    handler = """
        if not Path("hurry").exists():
            await asyncio.sleep(0.8)
        await leave_effect(event)
    """
    settings = {
        "ACK_DEADLINE_SECONDS": "10",  # the sender makes the machine busy
        "HANDLER_TIMEOUT_SECONDS": "2",
        "REQUEUE_AFTER_SECONDS": "10",
        "GRACE_PERIOD_SECONDS": str(GRACE_SECONDS),
    }
    event_ids = [f"evt_{number:024x}" for number in range(EVENTS)]
    warm, tenth = EVENTS // 20, EVENTS // 10
    with run(setup, handler, settings=settings) as service:
        answers = flood(service.port, event_ids[:warm], BYTES)
        # Only then has each process loaded all that it ever does.
        done = "state = 'done'"
        wait_for(lambda: service.database.count(done) >= 20, "the first to be done")
        answers += flood(service.port, event_ids[warm:tenth], BYTES)
        early = service.resident_megabytes()
        first = flood(service.port, event_ids[tenth : 2 * tenth], BYTES)
        answers += first + flood(service.port, event_ids[2 * tenth : -tenth], BYTES)
        last = flood(service.port, event_ids[-tenth:], BYTES)
        answers += last
        late = service.resident_megabytes()
        figures(megabytes_at_10_percent=early, megabytes_at_100_percent=late)
        figures(p99_ms_at_first=percentile_99(first), p99_ms_at_last=percentile_99(last))

        seconds_until_ended = service.end()
        figures(handled_meanwhile=service.database.count(done))
        figures(seconds_until_ended=seconds_until_ended)
        # A shutdown gives back what it cuts short.
        attempted_in_vain = service.database.count("state = 'pending' AND failures > 0")
        service.project.write("hurry", "")
        service.start_again()
        within = 2 * RECOVERY + EVENTS / 20
        figures(seconds_until_handled=service.seconds_until_handled(within))
        figures(**account(service.database, answers))

    growth = [after / before for before, after in zip(early, late, strict=True)]
    assert max(growth) < GROWTH
    assert seconds_until_ended < REQUESTS_SECONDS + GRACE_SECONDS + SLACK
    assert attempted_in_vain == 0
