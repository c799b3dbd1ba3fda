"""A generated service under a provider's load, while its processes and servers are taken away.

A test starts a `Service`, lets a `Provider` send to it, does harm, and asks for an `account`. What
happens by chance follows from SEED, which every test reports; CHAOS_SEED repeats it.
"""

import asyncio
import hashlib
import hmac
import json
import os
import random
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Self

from live import (
    BROKERS,
    DATABASES,
    PATIENCE,
    PYTHON,
    WORKERS,
    Database,
    Process,
    forks_of,
    free_port,
    wait_for,
)
from project import Project, Variant, bake, clean_environment

SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
SECRET = "whsec_of_the_chaos"  # noqa: S105
SLACK = 1.5  # seconds that a busy machine may add to what the service promises

# Nobody has to wait long: a lease of four seconds. A killed attempt counts, so there are many. What
# is handed over is due again later than messages wait on a machine that is busy with starting
# processes, or those that wait would be made again and again.
SHORT = {
    "ACK_DEADLINE_SECONDS": "2",
    "HANDLER_TIMEOUT_SECONDS": "2",
    "HANDOVER_SECONDS": "2",
    "MAX_ATTEMPTS": "1000",
    "PYTHONDONTWRITEBYTECODE": "",  # or each start would compile everything anew
    "RETRY_BASE_SECONDS": "0.2",
    "RETRY_CAP_SECONDS": "1",
    "STRIPE_WEBHOOK_SECRET": SECRET,
    "SWEEP_SECONDS": "0.2",
}
ACK_DEADLINE = float(SHORT["ACK_DEADLINE_SECONDS"])
LEASE = float(SHORT["HANDLER_TIMEOUT_SECONDS"]) + ACK_DEADLINE
LONGEST_HANDOVER = 20 * float(SHORT["HANDOVER_SECONDS"])  # as the project's README has it

# What uvicorn, Celery and arq print when they have begun.
AT_WORK = re.compile(r"Uvicorn running on| ready\.|Starting worker for")

# Leaves a row for each time it is carried out, and fails now and then when it has done so.
HANDLER = '''"""What the tests have done about an event."""

import asyncio
import random

import sqlalchemy as sa

from app.database import metadata
from app.events import Event

effects = sa.Table("effects", metadata, sa.Column("event_id", sa.Text, nullable=False))


async def handle(event: Event) -> None:
    await asyncio.sleep(random.uniform(0, 0.3))
    async with event.transaction() as db:
        await db.execute(effects.insert().values(event_id=event.id))
        if random.random() < 0.02:
            raise RuntimeError("after its effect")
'''


@dataclass(frozen=True)
class Setup:
    """What a service is made of: the answer to `processing`, and the servers it is given."""

    processing: str
    broker: str  # empty: none
    database: str

    def __str__(self) -> str:
        return " on ".join(filter(None, (self.processing, self.broker, self.database)))


SETUPS = [
    Setup("background", "", "sqlite"),
    Setup("background", "", "postgresql"),
    Setup("celery", "redis", "postgresql"),
    Setup("celery", "rabbitmq", "postgresql"),
    Setup("celery", "folder", "sqlite"),
    Setup("arq", "redis", "sqlite"),
    Setup("arq", "redis", "postgresql"),
]


def recording_copy(
    install: Callable[[Variant], Project], processing: str, folder: Path, handler: str = HANDLER
) -> Project:
    """Return a project with this handler, in the environment of the one that others use."""
    project = bake(folder / "chaos", provider="stripe", processing=processing)
    project.share_environment(install(Variant("stripe", processing)))
    (project.path / "app/handlers/stripe.py").write_text(handler, encoding="utf-8")
    return project


class Service:
    """The processes of a project: each serves on a port of its own, or is a worker.

    They are forks of a process that has the libraries imported.
    """

    forked = True

    def __init__(
        self, project: Project, processing: str, apis: int, workers: int, **environment: str
    ) -> None:
        self.ports = [free_port() for _ in range(apis)]
        self._project = project
        self._forks = forks_of(project) if self.forked else None
        self._environment = clean_environment(**(SHORT | environment))
        serve = f"{PYTHON}uvicorn app.main:app --timeout-graceful-shutdown 5 --port"
        self._commands = [f"{serve} {port}" for port in self.ports]
        if processing in WORKERS:
            work = PYTHON + WORKERS[processing].format(app="app.queue")
            name = " --loglevel info --hostname {}@%h" if processing == "celery" else ""
            self._commands += [work + name.format(uuid.uuid4().hex) for _ in range(workers)]
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        self._processes = [self._start(command) for command in self._commands]
        try:
            self.wait_until_at_work(self.check)
        except BaseException as failure:
            self.__exit__(failure)
            raise
        return self

    def __exit__(self, failure: object = None, *_: object) -> None:
        for process in self._processes:
            process.kill()
            if failure:
                print(process.printed[-3000:])  # noqa: T201

    def kill_one(self, chance: random.Random) -> None:
        """Kill a process at work, or now and then one that begins, and start it again at once.

        Before, at least half of them are let come to work, or there would be little to break.
        """
        half = len(self._processes) // 2
        wait_for(lambda: len(self._at_work()) >= half, "half of the processes to be at work")
        time.sleep(chance.uniform(0, 0.5))
        everywhere = list(range(len(self._processes)))
        number = chance.choice(self._at_work() if chance.random() < 0.8 else everywhere)
        self._restart(number)

    def kill_worker(self) -> None:
        """Kill the last of the workers, and start it again at once."""
        self._restart(len(self._processes) - 1)

    def check(self, *, workers: bool = True) -> None:
        """Fail if a process has ended by itself, or one that serves."""
        for process in self._processes[: None if workers else len(self.ports)]:
            process.check()

    def keep(self, *, apis: bool = False) -> None:
        """Start what has ended by itself again, as a supervisor would: workers, or all of it."""
        for number in range(0 if apis else len(self.ports), len(self._processes)):
            if self._processes[number].ended:
                self._processes[number] = self._start(self._commands[number])

    def end(self) -> float:
        """Ask one process after another to end, and return the seconds that the slowest took."""
        clocks = [time.monotonic()]
        for process in self._processes:
            process.check()
            process.end()
            clocks.append(time.monotonic())
        return round(max(after - before for before, after in pairwise(clocks)), 1)

    @property
    def printed(self) -> str:
        """What all of its processes have printed."""
        return "".join(process.printed for process in self._processes)

    def resident_megabytes(self) -> list[float]:
        """Return the memory that each process has, those that serve first."""
        return [process.resident_megabytes for process in self._processes]

    def wait_until_at_work(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        def are_at_work() -> bool:
            meanwhile()
            return len(self._at_work()) == len(self._processes)

        wait_for(are_at_work, "all to be at work")

    def _at_work(self) -> list[int]:
        return [n for n, process in enumerate(self._processes) if AT_WORK.search(process.printed)]

    def _restart(self, number: int) -> None:
        self._processes[number].kill()
        self._processes[number] = self._start(self._commands[number])

    def _start(self, command: str) -> Process:
        return Process(self._project.path, command, self._environment, self._forks)


class FreshService(Service):
    """The processes of a project, each started by a command."""

    forked = False


@dataclass(frozen=True)
class Answer:
    """How a delivery ended; the status is 0 if the connection did."""

    id: str
    status: int
    retry_after: bool
    begun: float  # seconds since the epoch, as the inbox has it
    seconds: float
    failure: str = ""

    @property
    def ended(self) -> float:
        return self.begun + self.seconds


class Provider:
    """Sends events as Stripe does, each until it is acknowledged, some more than once.

    Several senders go on until `stop`, each with a pause of `pause` seconds on average.
    """

    def __init__(
        self, ports: list[int], seed: int = SEED, senders: int = 8, pause: float = 0.05
    ) -> None:
        self.answers: list[Answer] = []
        self._ports = ports
        self._seeds = [seed * 1000 + number for number in range(senders)]
        self._pause = pause
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send_all()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        self._stopping = True
        if failure is None:
            self.stop()

    def stop(self) -> None:
        """Begin no event more, and wait until all are acknowledged."""
        self._stopping = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), f"not acknowledged for long: {self.answers[-3:]}"

    async def _send_all(self) -> None:
        await asyncio.gather(*(self._send(random.Random(seed)) for seed in self._seeds))  # noqa: S311

    async def _send(self, chance: random.Random) -> None:
        sent: list[str] = []
        while not self._stopping:
            id = f"evt_{chance.getrandbits(96):024x}"
            sent.append(id)
            copies = [id] * chance.choice((1, 1, 1, 1, 1, 1, 2, 3))  # at the same time
            if chance.random() < 0.1:
                copies.append(chance.choice(sent))  # or again, later
            await asyncio.gather(*(self._deliver(copy, chance) for copy in copies))
            await asyncio.sleep(chance.uniform(0, 2 * self._pause))

    async def _deliver(self, id: str, chance: random.Random) -> None:
        while True:
            answer = await _post(chance.choice(self._ports), id)
            self.answers.append(answer)
            if 200 <= answer.status < 300:
                return
            await asyncio.sleep(chance.uniform(0.1, 0.5))


def deliver(ports: list[int], id: str, type: str = "invoice.paid", times: int = 1) -> list[Answer]:
    """Deliver an event, as often as wanted at the same time, to each port in turn."""

    async def deliver_all() -> list[Answer]:
        turns = islice(cycle(ports), times)
        return await asyncio.gather(*(_post(port, id, type) for port in turns))

    return asyncio.run(deliver_all())


def flood(port: int, ids: list[str], size: int, connections: int = 16) -> list[Answer]:
    """Deliver events of `size` bytes, each until acknowledged, as fast as the answers come."""
    waiting = iter(ids)
    answers: list[Answer] = []

    async def send() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for id in waiting:
            request = _request(id, "invoice.paid", "keep-alive", size)
            status = 0
            while status != 200:
                begun, clock = time.time(), time.monotonic()
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
                status, retry_after = int(head[9:12]), b"\r\nretry-after: " in head
                seconds = time.monotonic() - clock
                answers.append(Answer(id, status, retry_after, begun, seconds))
        writer.close()

    async def send_all() -> None:
        await asyncio.gather(*(send() for _ in range(connections)))

    asyncio.run(send_all())
    return answers


async def _post(port: int, id: str, type: str = "invoice.paid") -> Answer:
    request = _request(id, type, "close")
    begun, clock = time.time(), time.monotonic()
    status, retry_after, failure = 0, False, ""
    try:
        async with asyncio.timeout(15):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                answer = await reader.read()
            finally:
                writer.close()
        if answer.startswith(b"HTTP/1.1 "):
            status, retry_after = int(answer[9:12]), b"\nretry-after: " in answer.lower()
        else:
            failure = f"answered {answer!r}"
    except OSError as error:  # and TimeoutError, which is one
        failure = repr(error)
    return Answer(id, status, retry_after, begun, time.monotonic() - clock, failure)


def _request(id: str, type: str, connection: str, padding: int = 0) -> bytes:
    thing = {"id": "in_1", "object": "invoice", "description": "x" * padding}
    event = {"id": id, "object": "event", "type": type, "data": {"object": thing}}
    body, now = json.dumps(event).encode(), int(time.time())
    signature = hmac.new(SECRET.encode(), b"%d.%b" % (now, body), hashlib.sha256).hexdigest()
    head = (
        f"POST /webhooks/stripe HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n"
        f"Stripe-Signature: t={now},v1={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def percentile_99(answers: list[Answer]) -> float:
    """Return the time of the answers that only one in a hundred exceeds, in milliseconds."""
    times = sorted(answer.seconds for answer in answers if answer.status)
    return round(1000 * times[len(times) * 99 // 100], 1)


def seconds_until_empty(
    database: Database,
    within: float,
    meanwhile: Callable[[], None] = lambda: None,
    at_most: int = 0,
) -> float:
    """Wait until only `at_most` events are pending, and return how long that took.

    Fails if it takes longer than `within`. Both are in seconds.
    """
    begun = time.monotonic()
    while database.count("state = 'pending'") > at_most:
        waited = time.monotonic() - begun
        left = database.rows(
            "SELECT event_id, due_at, attempts, error FROM inbox WHERE state = 'pending' LIMIT 3"
        )
        assert waited < within, f"pending after {waited:.0f} s, at {time.time()}: {left}"
        meanwhile()
        time.sleep(0.1)
    return round(time.monotonic() - begun, 1)


def first_acknowledged(answers: list[Answer]) -> dict[str, float]:
    """Return the events that a 2xx was heard for, and when it was heard first."""
    first: dict[str, float] = {}
    for answer in sorted(answers, key=lambda answer: answer.ended):
        if 200 <= answer.status < 300:
            first.setdefault(answer.id, answer.ended)
    return first


def account(database: Database, answers: list[Answer]) -> dict[str, object]:
    """Return the figures of a run, given all answers to it; fail if an event's are not right.

    Every event that was acknowledged was in the inbox before, is done, and has its effect once.
    """
    rows = database.rows("SELECT event_id, state, received_at, attempts, error FROM inbox")
    inbox = {row[0]: row[1:] for row in rows}
    effects = Counter(id for (id,) in database.rows("SELECT event_id FROM effects"))
    acknowledged = first_acknowledged(answers)
    lost = [id for id in acknowledged if id not in inbox or not effects[id]]
    twice = [id for id, times in effects.items() if times > 1]
    not_done = {id: row for id, row in inbox.items() if row[0] != "done"}
    early = [
        id
        for id, heard in acknowledged.items()
        if id in inbox and not _is_before(inbox[id][1], heard)
    ]
    statuses = Counter(answer.status for answer in answers)
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
        "lost": len(lost),
        "more than once": len(twice),
    }


def _is_before(received_at: object, heard: float) -> bool:
    return isinstance(received_at, float) and received_at <= heard + 0.05  # two clocks' resolution


@contextmanager
def surroundings(
    setup: Setup, folder: Path, database: Database | None = None
) -> Iterator[tuple[Database, dict[str, str]]]:
    """Yield a database of the service's own, and the variables that name it and a broker."""
    with ExitStack() as stack:
        database = database or stack.enter_context(DATABASES[setup.database](folder))
        environment = {"DATABASE_URL": database.url}
        if setup.broker == "folder":
            environment["BROKER_URL"] = f"filesystem://{folder / 'broker'}"
        elif setup.broker:
            environment["BROKER_URL"] = stack.enter_context(BROKERS[setup.broker]())
        yield database, environment
