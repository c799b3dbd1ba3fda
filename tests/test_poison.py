"""Events that break whatever handles them end as dead, and those beside them are handled."""

import os
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from chaos import (
    LEASE,
    LONGEST_HANDOVER,
    SEED,
    SETUPS,
    Provider,
    Service,
    Setup,
    account,
    deliver,
    recording_copy,
    seconds_until_empty,
    surroundings,
)
from conftest import Figures, Install
from live import Database, wait_for

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

MAX_ATTEMPTS = 5

# Every way of processing, every broker and both databases: all pairs of them would take minutes.
EACH = [
    setup
    for setup in SETUPS
    if setup.database == "sqlite" or setup.broker == "rabbitmq" or setup.processing == "arq"
]

# Does harm until it is cured, and notes each time that it is called.
HANDLER = '''"""What the tests have done about an event."""

import asyncio
import os
from pathlib import Path

import sqlalchemy as sa

from app.database import metadata
from app.events import Event

effects = sa.Table("effects", metadata, sa.Column("event_id", sa.Text, nullable=False))
cured = Path(os.environ["CURED"])


async def handle(event: Event) -> None:
    if not cured.exists():
        with open(os.environ["CALLS"], "a") as calls:
            calls.write(f"{event.type}\\n")
        match event.type:
            case "poison.raises":
                raise ValueError("poison")
            case "poison.hangs":
                await asyncio.Event().wait()
            case "poison.kills":
                os._exit(1)
    async with event.transaction() as db:
        await db.execute(effects.insert().values(event_id=event.id))
'''

POISONS = {
    "poison.raises": "ValueError: poison",
    "poison.hangs": "TimeoutError",
    "poison.kills": "its process died",
}


def others(database: Database, begin: float, end: float) -> str:
    """Return how long it took until those were done that came, and were done, in a time."""
    rows = database.rows(
        "SELECT finished_at - received_at FROM inbox WHERE event_id LIKE 'evt%'"  # noqa: S608
        f" AND received_at > {begin} AND finished_at < {end} ORDER BY 1"
    )
    times = [1000 * float(str(seconds)) for (seconds,) in rows]
    return f"{times[len(times) // 2]:.0f} ms, at most {times[-1]:.0f} ms" if times else "none"


@pytest.mark.parametrize("setup", EACH, ids=str)
def test_what_poisons_its_handler_is_dead_in_the_end_and_nothing_else_is(
    setup: Setup, install: Install, tmp_path: Path, figures: Figures
) -> None:
    figures(seed=SEED)
    project = recording_copy(install, setup.processing, tmp_path, HANDLER)
    cured, calls = tmp_path / "cured", tmp_path / "calls"
    extra = {"CURED": str(cured), "CALLS": str(calls), "MAX_ATTEMPTS": str(MAX_ATTEMPTS)}
    with (
        surroundings(setup, tmp_path) as (database, environment),
        Service(project, setup.processing, 1, 1, **environment, **extra) as service,
    ):

        def is_dead(poison: str) -> bool:
            service.keep(apis=True)
            return database.count(f"event_id = '{poison}' AND state = 'dead'") == 1

        with Provider(service.ports, senders=2, pause=0.2) as provider:
            for poison in POISONS:  # one after another, or the last would end the others' attempts
                begun = time.time()
                provider.answers += deliver(service.ports, poison, poison)
                wait_for(partial(is_dead, poison), f"{poison} to be dead")
                took = others(database, begun, time.time())
                figures(**{poison.replace("poison", "beside what"): took})
                if poison != "poison.kills":  # who is beside that one loses an attempt
                    assert database.count("event_id LIKE 'evt%' AND attempts > 1") == 0
            figures(handled_meanwhile=database.count("state = 'done'"))
        dead = database.rows("SELECT event_id, error FROM inbox WHERE state = 'dead'")
        called = Counter(calls.read_text(encoding="ascii").split())

        cured.touch()
        project.run(".venv/bin/python -m app replay --dead", 60, **environment, **extra)
        seconds_until_empty(database, LEASE + LONGEST_HANDOVER + 10, service.keep)
        figures(**account(database, provider.answers))

    errors = {str(id): str(error) for id, error in dead}
    assert errors.keys() == POISONS.keys()
    for poison, reason in POISONS.items():
        assert reason in errors[poison]
        assert called[poison] == MAX_ATTEMPTS
