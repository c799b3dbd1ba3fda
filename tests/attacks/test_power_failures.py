"""The power fails: what only memory had is gone, and what was acknowledged is handled once.

Only acknowledgements wait for the disk. A handler's transaction may be lost whole, with the event's
being done, and is then repeated.
"""

import random
import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from conftest import Figures
from live.databases import sqlite_database
from live.power import TRACE, disks_at
from live.processes import wait_for
from live.sender import SEED, Answer, Sender, first_acknowledged, flood
from live.servers import PostgreSQL
from live.service import ON_POSTGRESQL, ON_SQLITE, Setup, account
from live.shared import require_program

from attacks.conftest import Run

ROUNDS = 3
EVENTS = 40  # in each round
LOAD_SECONDS = 6
MOMENTS = 60


@pytest.mark.parametrize("setup", ON_POSTGRESQL[:2], ids=str)
def test_what_postgresql_loses_in_a_crash_is_an_effect_with_its_event_s_being_done(
    setup: Setup, run: Run, figures: Figures
) -> None:
    """A crash loses the commits of handlers that are not yet written: they may be seconds old."""
    handler = """
        await leave_effect(event)
        with open("committed", "a") as committed:
            committed.write(f"{event.id}\\n")
    """
    with (
        PostgreSQL(wal_writer_delay="10s") as store,
        run(setup, handler, database=store.database) as service,
    ):
        committed = service.project.path / "committed"
        answers: list[Answer] = []
        for number in range(ROUNDS):
            event_ids = [f"evt_{number}_{each}" for each in range(EVENTS)]
            answers += flood(service.port, event_ids, size=100)
            wait_for(partial(are_in, event_ids, committed), "all to be committed")
            store.stop()
            store.start()
            figures(seconds_until_handled=service.seconds_until_handled())
        repeated = len(committed.read_text("ascii").split()) - ROUNDS * EVENTS
        figures(committed_lost_and_repeated=repeated)
        figures(**account(service.database, answers))
    assert repeated > 0  # or no crash has lost anything


def are_in(event_ids: list[str], file: Path) -> bool:
    return file.exists() and set(event_ids) <= set(file.read_text("ascii").split())


@pytest.mark.parametrize("setup", ON_SQLITE[:1], ids=str)
def test_what_sqlite_loses_in_a_power_failure_was_neither_acknowledged_nor_half_done(
    setup: Setup, run: Run, tmp_path: Path, figures: Figures
) -> None:
    figures(seed=SEED)
    require_program("strace")
    trace = tmp_path / "trace"
    # In development, for the process that is watched to make the tables itself.
    settings = {"ENVIRONMENT": "development"}
    with run(setup, wrapper=f"{TRACE} -o {trace}", settings=settings) as service:
        with Sender(service.ports, pause=0.1) as sender:
            begun = time.time()
            time.sleep(LOAD_SECONDS)
            ended = time.time()
        heard = first_acknowledged(sender.answers)
    chance = random.Random(SEED)  # noqa: S311
    moments = sorted(chance.uniform(begun, ended) for _ in range(MOMENTS))
    disks = disks_at(trace, service.database.file, moments)
    done = 0
    for moment, files in zip(moments, disks, strict=True):
        folder = tmp_path / str(moment)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        acknowledged = {event_id for event_id, at in heard.items() if at < moment}
        done += check_disk(folder / "live.db", acknowledged)
    figures(events=len(heard), moments=MOMENTS, done=done)

    # With what was left the last time, it goes on.
    with sqlite_database(folder) as database, run(setup, slug="later", database=database) as later:
        later.seconds_until_handled()
        assert set(heard) >= acknowledged
        check_disk(database.file, acknowledged)
        assert database.count("state <> 'done'") == 0


def check_disk(file: Path, acknowledged: set[str]) -> int:
    """Fail unless what a disk has fits together; return how many events are done."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        states = dict(connection.execute("SELECT event_id, state FROM webhook_events"))
        effects = [each for (each,) in connection.execute("SELECT event_id FROM effects")]
    done = {event_id for event_id, state in states.items() if state == "done"}
    assert acknowledged <= states.keys()
    assert len(effects) == len(set(effects))
    assert done == set(effects)
    return len(done)
