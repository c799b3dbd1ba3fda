"""A set-up at work: its processes, its database and its broker."""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from live.databases import Database
from live.processes import free_port, wait_for
from project import clean_environment

from benchmarks.cores import Pinned
from benchmarks.homes import BASELINES, Home, Homes, run
from benchmarks.load import SECRET, Answer, send, sign_new
from benchmarks.results import Missing
from benchmarks.servers import Redis, database, rabbitmq
from benchmarks.setups import CAREFUL_REDIS, RABBITMQ, REDIS, Program, Setup

STALLED_SECONDS = 60  # without a further effect


class Running:
    """The processes of a set-up, all on one core, and what they talk to."""

    def __init__(
        self, setup: Setup, home: Home, core: int, database: Database, redis: Redis | None
    ) -> None:
        self.setup = setup
        self.database = database
        self.redis = redis
        self.port = free_port()
        self.folder = Path()
        self._home = home
        self._core = core
        self._processes: list[Pinned] = []
        self._environment: dict[str, str] = {}
        self._placeholders: dict[str, str] = {}

    def start(self, folder: Path, broker: str) -> None:
        """Prepare the database, start all processes and wait until they are at work."""
        self.folder = folder
        self._placeholders = {
            "baselines": str(BASELINES),
            "bin": str(self._home.bin),
            "folder": str(folder),
            "port": str(self.port),
            "second_port": str(free_port()),
            "url": self.database.url,
        }
        settings = {
            "ENVIRONMENT": "production",
            "STRIPE_WEBHOOK_SECRET": SECRET,
            "DATABASE_URL": self.database.url,
            "BROKER_URL": broker,
            "PYTHONPATH": self._home.python_path,
            "PYTHONUNBUFFERED": "1",
        }
        for name, value in self.setup.environment.items():
            settings[name] = value.format(**self._placeholders)
        self._environment = {name: value for name, value in settings.items() if value}
        for command in self.setup.prepare:
            prepared = command.format(**self._placeholders)
            run(prepared, self._home.folder, **self._environment)
        self._processes = [self._start(program) for program in self.setup.programs]
        try:
            wait_for(self._are_at_work, f"{self.setup} to be at work")
        except AssertionError as error:
            error.add_note("\n".join(process.printed for process in self._processes))
            raise

    def close(self) -> None:
        for process in self._processes:
            process.kill()

    def acknowledge(self, number: int) -> tuple[float, list[Answer]]:
        """Send that many events; return the seconds until the last answer, and all answers.

        Raises:
            Missing: an answer was not 2xx.
        """
        requests = sign_new(number, self.setup.path)
        begun = time.monotonic()
        answers = send(self.port, requests)
        return time.monotonic() - begun, answers

    def take_effect(self, number: int) -> tuple[float, list[Answer]]:
        """Send that many events; return the seconds until the last effect, and all answers.

        Raises:
            Missing: an answer was not 2xx, or an effect did not come.
        """
        expected = self.effects() + number
        seconds, answers = self.acknowledge(number)
        return seconds + self._wait_for_effects(expected), answers

    def effects(self) -> int:
        [(number,)] = self.database.rows("SELECT count(*) FROM orders")
        assert isinstance(number, int)
        return number

    def cpu_seconds(self) -> float:
        """Return the processor time of all processes of the service."""
        return sum(process.cpu_seconds() for process in self._processes)

    def resident_megabytes(self) -> float:
        """Return the memory of the process that serves."""
        return self._processes[0].resident_megabytes

    def check(self) -> None:
        """Fail if a process has ended by itself."""
        for process in self._processes:
            process.check()

    def wait_until_at_work(self, number: int) -> None:
        """Wait for one process, which is started again if it ends by itself."""

        def is_at_work() -> bool:
            self.restart_ended()
            return self.is_at_work(number)

        wait_for(is_at_work, f"{self.setup.programs[number].name} of {self.setup} to be at work")

    def is_at_work(self, number: int) -> bool:
        """Return whether a process has printed that it is ready."""
        ready = self.setup.programs[number].ready
        return re.search(ready, self._processes[number].printed) is not None

    def restart_ended(self) -> None:
        """Restart processes that have ended by themselves, as a supervisor does."""
        for number, process in enumerate(self._processes):
            if process.ended:
                self.kill_and_restart(number)

    def kill_and_restart(self, number: int) -> None:
        self._processes[number].kill()
        self._processes[number] = self._start(self.setup.programs[number])

    def _are_at_work(self) -> bool:
        self.check()
        return all(self.is_at_work(number) for number in range(len(self._processes)))

    def _start(self, program: Program) -> Pinned:
        command = program.command.format(**self._placeholders)
        environment = clean_environment(**self._environment)
        return Pinned(self._home.folder, self._core, command, environment)

    def _wait_for_effects(self, expected: int) -> float:
        begun = last_progress = time.monotonic()
        seen = self.effects()
        while seen < expected:
            time.sleep(0.02)
            self.check()
            before, seen = seen, self.effects()
            now = time.monotonic()
            if seen > before:
                last_progress = now
            if now - last_progress > STALLED_SECONDS:
                raise Missing(f"{expected - seen} of {expected} effects did not come")
        return time.monotonic() - begun


@contextmanager
def running(homes: Homes, setup: Setup, kind: str, *, unique: bool = True) -> Iterator[Running]:
    """Run a set-up on an empty database of that kind.

    Args:
        unique: Whether an order can have only one row.

    Raises:
        Missing: a server or a package is not here.
    """
    home = homes.home(setup)
    with ExitStack() as stack:
        made = stack.enter_context(database(kind, homes.folder, unique=unique))
        redis, broker = None, ""
        if setup.broker == RABBITMQ:
            broker = stack.enter_context(rabbitmq())
        elif setup.broker in {REDIS, CAREFUL_REDIS}:
            careful = setup.broker == CAREFUL_REDIS
            redis = Redis(homes.folder, homes.cores, careful=careful)
            redis.start()
            stack.callback(redis.close)
            broker = redis.url
        folder = Path(tempfile.mkdtemp(dir=homes.folder))
        stack.callback(shutil.rmtree, folder)
        service = Running(setup, home, homes.cores.service, made, redis)
        stack.callback(service.close)
        service.start(folder, broker)
        yield service
