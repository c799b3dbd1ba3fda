"""A generated service under attack: its processes, its database, and a check of its events."""

import math
import random
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import dedent, indent
from types import MappingProxyType
from typing import Self

from project import CHOICES, FACTS, Project, Variant, bake, clean_environment

from live.databases import DATABASES, Database
from live.processes import Process, free_port, wait_for
from live.sender import SECRET, Answer, first_acknowledged

PYTHON = ".venv/bin/python -m "
SLACK = 1.5  # seconds that a busy machine may add to what the service promises

# Waits are short. A killed attempt counts, so many are allowed. Events are dispatched again only
# after messages can have waited on a busy machine, or messages would pile up.
SHORT = {
    "ENVIRONMENT": "production",
    "STRIPE_WEBHOOK_SECRET": SECRET,
    "ACK_DEADLINE_SECONDS": "2",
    "HANDLER_TIMEOUT_SECONDS": "1",
    "REQUEUE_AFTER_SECONDS": "5",
    "MAX_ATTEMPTS": "1000",
    "RETRY_BASE_SECONDS": "0.2",
    "RETRY_CAP_SECONDS": "1",
    "POLL_INTERVAL_SECONDS": "0.2",
}
ACK_DEADLINE = float(SHORT["ACK_DEADLINE_SECONDS"])
REQUEUE_AFTER = float(SHORT["REQUEUE_AFTER_SECONDS"])
CANCEL = 2  # seconds that the service waits for a cancelled handler
LONGEST_LEASE = 1.5 * (float(SHORT["HANDLER_TIMEOUT_SECONDS"]) + CANCEL + ACK_DEADLINE)

# A killed process may have held a lease, and a killed worker a message.
RECOVERY = LONGEST_LEASE + 2 * REQUEUE_AFTER + 15

# What uvicorn, Celery and arq print when they are ready.
AT_WORK = re.compile(r"Uvicorn running on| ready\.|Starting worker for")

# At this level, Celery logs when it is ready. Its workers on one host need different names.
OPTIONS = {"celery": " --loglevel info --hostname {}@%h"}

HANDLER = '''"""The handler of the tests."""

import asyncio
import os
import random
import time
from pathlib import Path

import sqlalchemy as sa

from app.database import metadata
from app.events import Event

effects = sa.Table("effects", metadata, sa.Column("event_id", sa.Text, nullable=False))


async def leave_effect(event: Event) -> None:
    async with event.transaction() as db:
        await db.execute(effects.insert().values(event_id=event.id))


async def handle(event: Event) -> None:
{body}
'''

REVISION = '''"""The table of the tests' handlers."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create it."""
    op.create_table("effects", sa.Column("event_id", sa.Text, nullable=False))


def downgrade() -> None:
    """Drop it."""
    op.drop_table("effects")
'''

# Writes a row, and now and then fails after that.
RECORDING = """
    await asyncio.sleep(random.uniform(0, 0.3))
    async with event.transaction() as db:
        await db.execute(effects.insert().values(event_id=event.id))
        if random.random() < 0.02:
            raise RuntimeError("after its effect")
"""


@dataclass(frozen=True)
class Setup:
    """What a service consists of: the answer to `processing`, and its servers."""

    processing: str
    broker: str  # empty: none
    database: str

    def __str__(self) -> str:
        return "-".join(filter(None, (self.processing, self.broker, self.database)))


SETUPS = [
    Setup(processing, broker, database)
    for processing in CHOICES["processing"]
    for broker in FACTS[processing]["brokers"] or [""]
    for database in DATABASES
]
ON_SQLITE = [setup for setup in SETUPS if setup.database == "sqlite"]
ON_POSTGRESQL = [setup for setup in SETUPS if setup.database == "postgresql"]
WITH_BROKER = [setup for setup in ON_POSTGRESQL if setup.broker]

# Each processing with the first broker that it can have.
EACH_PROCESSING = [
    next(setup for setup in ON_POSTGRESQL if setup.processing == processing)
    for processing in CHOICES["processing"]
]
# Every processing, broker and database, for tests where all combinations would take long.
FEW_SETUPS = [ON_SQLITE[0], *ON_POSTGRESQL]


def project_with(
    handler: str, install: Callable[[Variant], Project], folder: Path, **answers: str
) -> Project:
    """Generate a project with this body of its handler, in an environment shared with others."""
    project = bake(folder, provider="stripe", **answers)
    project.share_environment(install(Variant("stripe", answers["processing"])).path / ".venv")
    body = indent(dedent(handler).strip("\n"), "    ")
    project.write("app/handlers/stripe.py", HANDLER.replace("{body}", body))
    project.write("migrations/versions/0002_effects.py", REVISION)
    return project


def worker_command(processing: str) -> str:
    """Return the command that users are told to start a worker with, in a project's environment."""
    return PYTHON + str(FACTS[processing]["worker"]).removeprefix("python -m ")


class Service:
    """The processes of a project: each serves on a port of its own, or is a worker.

    None of them may end by itself: `check` fails if one has.
    """

    def __init__(
        self,
        project: Project,
        processing: str,
        database: Database,
        broker: str = "",
        *,
        webs: int = 1,
        workers: int = 1,
        wrapper: str = "",
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.project = project
        self.processing = processing
        self.database = database
        self.broker = broker
        self.ports = [free_port() for _ in range(webs)]
        self.settings = SHORT | {"DATABASE_URL": database.url} | dict(settings)
        if broker:
            self.settings["BROKER_URL"] = broker
        serve = f"{PYTHON}uvicorn app.main:app --timeout-graceful-shutdown 5 --port"
        self._commands = [f"{wrapper} {serve} {port}" for port in self.ports]
        if FACTS[processing]["worker"]:
            work = worker_command(processing) + OPTIONS.get(processing, "")
            self._commands += [work.format(uuid.uuid4().hex) for _ in range(workers)]
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        if self.settings["ENVIRONMENT"] == "production":
            self.run("app migrate")
        self._processes = [self._start(command) for command in self._commands]
        try:
            self.wait_until_at_work()
        except BaseException as failure:
            self.__exit__(failure)
            raise
        return self

    def __exit__(self, failure: object = None, *_: object) -> None:
        for process in self._processes:
            process.kill()
            if failure:
                print(f"{process.command} printed:\n{process.printed[-3000:]}")  # noqa: T201

    def another(self, *, webs: int, settings: Mapping[str, str]) -> "Service":
        """Return more processes of the same service, with their own settings, to be started."""
        return Service(
            self.project,
            self.processing,
            self.database,
            self.broker,
            webs=webs,
            settings=self.settings | dict(settings),
        )

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def printed(self) -> str:
        """What all of its processes have printed."""
        return "".join(process.printed for process in self._processes)

    def run(self, module: str) -> str:
        """Run a module of the project with the settings of the service."""
        return self.project.run(PYTHON + module, 60, **self.settings)

    def check(self) -> None:
        """Fail if a process has ended by itself."""
        for process in self._processes:
            process.check()

    def wait_until_at_work(self) -> None:
        def are_at_work() -> bool:
            self.check()
            return len(self._at_work()) == len(self._processes)

        wait_for(are_at_work, "all to be at work")

    def kill_one(self, chance: random.Random) -> None:
        """Kill a process at work, or now and then one that is starting, and restart it at once.

        First wait until at least half of them are at work, or there would be little to break.
        """
        half = len(self._processes) // 2
        wait_for(lambda: len(self._at_work()) >= half, "half of the processes to be at work")
        time.sleep(chance.uniform(0, 0.5))
        everywhere = list(range(len(self._processes)))
        self._restart(chance.choice(self._at_work() if chance.random() < 0.8 else everywhere))

    def kill_worker(self) -> None:
        """Kill the last of the processes, and start it again at once."""
        self._restart(len(self._processes) - 1)

    def restart_ended(self) -> None:
        """Start the processes again that a handler has ended."""
        for number, process in enumerate(self._processes):
            if process.ended:
                self._restart(number)

    def end(self) -> float:
        """Ask one process after another to end, and return the seconds that the slowest took."""
        clocks = [time.monotonic()]
        for process in self._processes:
            process.check()
            process.end()
            clocks.append(time.monotonic())
        return round(max(after - before for before, after in pairwise(clocks)), 1)

    def start_again(self) -> None:
        """Start all processes that have ended, and wait until they are at work."""
        self.restart_ended()
        self.wait_until_at_work()

    def resident_megabytes(self) -> list[float]:
        """Return the memory that each process has, those that serve first."""
        return [process.resident_megabytes for process in self._processes]

    def seconds_until_handled(self, within: float = RECOVERY, at_most: int = 0) -> float:
        """Wait until only `at_most` events are pending, and return how long that took.

        Fails if it takes longer than `within` seconds, or if a process ends meanwhile.
        """
        begun = time.monotonic()
        while self.database.count("state = 'pending'") > at_most:
            waited = time.monotonic() - begun
            assert waited < within, f"pending after {waited:.0f} s: {self._some_pending()}"
            self.check()
            time.sleep(0.1)
        return round(time.monotonic() - begun, 1)

    def _some_pending(self) -> list[tuple[object, ...]]:
        what = "event_id, due_at, attempts, failures, queued, error"
        rows = self.database.rows(
            f"SELECT {what} FROM webhook_events WHERE state = 'pending' LIMIT 3"  # noqa: S608
        )
        return [(time.time(), *row) for row in rows]

    def _at_work(self) -> list[int]:
        return [n for n, process in enumerate(self._processes) if AT_WORK.search(process.printed)]

    def _restart(self, number: int) -> None:
        self._processes[number].kill()
        self._processes[number] = self._start(self._commands[number])

    def _start(self, command: str) -> Process:
        return Process(self.project.path, command, clean_environment(**self.settings))


def account(
    database: Database, answers: Sequence[Answer], follow_up: str = ""
) -> dict[str, object]:
    """Check every event of a run, given all answers to it, and return the run's figures.

    An event must be in the inbox before it is acknowledged, be done, and have its effect once.

    Args:
        follow_up: The id of each event's follow-up, with `{}` for the id of the event.
    """
    rows = database.rows("SELECT event_id, state, received_at, attempts, error FROM webhook_events")
    inbox = {row[0]: row[1:] for row in rows}
    effects = Counter(event_id for (event_id,) in database.rows("SELECT event_id FROM effects"))
    acknowledged = first_acknowledged(answers)
    if follow_up:
        # A follow-up is stored with the effect of its event, long after that was acknowledged.
        acknowledged |= {follow_up.format(each): math.inf for each in acknowledged}
    statuses = Counter(answer.status for answer in answers)

    lost = [each for each in acknowledged if each not in inbox or not effects[each]]
    twice = [each for each, times in effects.items() if times > 1]
    not_done = {each: row for each, row in inbox.items() if row[0] != "done"}
    early = [
        each
        for each, heard in acknowledged.items()
        if each in inbox and not _is_before(inbox[each][1], heard)
    ]
    assert not lost, f"{len(lost)} lost, such as {lost[0]}: {inbox.get(lost[0])}"
    assert not twice, f"{len(twice)} handled more than once, such as {twice[0]}"
    assert not not_done, f"{len(not_done)} not done: {list(not_done.items())[:3]}"
    assert not early, f"{len(early)} acknowledged before they were kept, such as {early[0]}"
    assert len(rows) == len(inbox), "an event has two rows"
    assert inbox.keys() == effects.keys() == acknowledged.keys()
    assert statuses.keys() <= {0, 200, 503}, f"answers by status: {statuses}"
    return {
        "events": len(inbox),
        "deliveries": len(answers),
        "refused with 503": statuses[503],
        "broken off": statuses[0],
        "attempted again": database.count("attempts > 1"),
    }


def _is_before(received_at: object, heard: float) -> bool:
    return isinstance(received_at, float) and received_at <= heard + 0.05  # two clocks' resolution
