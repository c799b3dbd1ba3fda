"""Processes are killed under load: nothing is lost, nothing is done twice, nothing is in the way.

CHAOS_KILLS=500 uv run pytest tests/attacks/test_kills.py    is the long form: 20 unless it is set.
"""

import os
import random
from functools import partial

import pytest
from conftest import Figures
from live.databases import Database
from live.processes import wait_for
from live.sender import SEED, Sender, flood
from live.service import (
    ACK_DEADLINE,
    CANCEL,
    EACH_PROCESSING,
    RECOVERY,
    SETUPS,
    WITH_BROKER,
    Setup,
    account,
)

from attacks.conftest import Run

KILLS = int(os.environ.get("CHAOS_KILLS") or 20)
HANDS = 20  # events that a worker attempts at the same time
ATTEMPT_SECONDS = 4


@pytest.mark.parametrize("setup", SETUPS, ids=str)
def test_whatever_is_killed_every_event_is_done_exactly_once(
    setup: Setup, run: Run, figures: Figures
) -> None:
    figures(seed=SEED, kills=KILLS)
    chance = random.Random(SEED)  # noqa: S311
    with run(setup, webs=2, workers=2) as service:
        with Sender(service.ports) as sender:
            for _ in range(KILLS):
                service.kill_one(chance)
            service.wait_until_at_work()
        figures(seconds_until_handled=service.seconds_until_handled())
        figures(**account(service.database, sender.answers))


@pytest.mark.parametrize("setup", EACH_PROCESSING, ids=str)
def test_whatever_is_killed_what_follows_from_an_event_is_done_exactly_once(
    setup: Setup, run: Run, figures: Figures
) -> None:
    books_and_mails = """
        if event.type == "mail.send":
            await leave_effect(event)
            return
        async with event.transaction() as db:
            await db.execute(effects.insert().values(event_id=event.id))
            await event.then("mail.send", {"about": event.id})
            if random.random() < 0.02:
                raise RuntimeError("after what follows was added")
            await asyncio.sleep(random.uniform(0, 0.1))
    """
    figures(seed=SEED, kills=KILLS)
    chance = random.Random(SEED)  # noqa: S311
    with run(setup, books_and_mails, webs=2, workers=2) as service:
        with Sender(service.ports) as sender:
            for _ in range(KILLS):
                service.kill_one(chance)
            service.wait_until_at_work()
        figures(seconds_until_handled=service.seconds_until_handled())
        follow_up = "stripe/{}/mail.send"
        figures(**account(service.database, sender.answers, follow_up))


def have_begun(database: Database, number: int) -> bool:
    return database.rows("SELECT coalesce(sum(attempts), 0) FROM webhook_events") >= [(number,)]


@pytest.mark.parametrize("setup", WITH_BROKER, ids=str)
def test_what_killed_workers_held_is_in_nobodys_way(
    setup: Setup, run: Run, figures: Figures
) -> None:
    lets_go = """
        while not Path("let-go").exists():
            await asyncio.sleep(0.1)
        await leave_effect(event)
    """
    settings = {"CONCURRENCY": str(HANDS), "HANDLER_TIMEOUT_SECONDS": str(ATTEMPT_SECONDS)}
    with run(setup, lets_go, settings=settings) as service:
        answers = flood(service.port, [f"evt_{number:024x}" for number in range(100)], size=1)
        for held in range(HANDS, 4 * HANDS, HANDS):
            wait_for(partial(have_begun, service.database, held), "a worker to have its hands full")
            service.kill_worker()
        service.project.write("let-go", "")
        longest_lease = 1.5 * (ATTEMPT_SECONDS + CANCEL + ACK_DEADLINE)
        figures(seconds_until_handled=service.seconds_until_handled(longest_lease + RECOVERY))
        figures(**account(service.database, answers))
