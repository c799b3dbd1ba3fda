"""A generated project and the baselines, each started on a core of its own."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg
from live import Database, Process, free_port, postgresql_database, rabbitmq_vhost, sqlite_database
from project import bake, clean_environment
from services import POSTGRESQL, RABBITMQ, REDIS, Service

HERE = Path(__file__).resolve().parent
SECRET = "whsec_measured"  # noqa: S105
SERVED = "--log-level warning --no-access-log"
DJSTRIPE_PATH = "/stripe/webhook/11111111-1111-4111-8111-111111111111/"
REDIS_NUMBER = 7  # the tests use 8 to 15

# The handler that is measured: the baselines' handlers do nothing either.
HANDLER = '''"""Nothing to do, or nothing but to wait."""

import asyncio
import os

from app.events import Event

SECONDS = float(os.environ.get("HANDLER_SECONDS", "0"))


async def handle(event: Event) -> None:
    """Handle nothing."""
    if SECONDS:
        await asyncio.sleep(SECONDS)
'''


class Missing(Exception):
    """Something that a measurement needs is not here: it is left out, and this says why."""


class Cores(NamedTuple):
    """Which core serves, and which sends and measures."""

    server: int
    load: int


def take_cores() -> Cores:
    """Keep this process, and what it starts, off the core that serves."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise SystemExit("two cores are needed: one to serve, one to send")
    cores = Cores(*available[:2])
    os.sched_setaffinity(0, {cores.load})
    return cores


class Pinned(Process):
    """A command that stays, on one core."""

    def __init__(
        self, folder: Path, core: int, command: str, environment: dict[str, str], port: int = 0
    ) -> None:
        super().__init__(folder, f"taskset --cpu-list {core} {command}", environment)
        self.pid = self._process.pid
        self.port = port

    def cpu_seconds(self) -> float:
        """Return the processor time of this process and of all it started."""
        return sum(map(_cpu_ticks, self._pids())) / os.sysconf("SC_CLK_TCK")

    def _pids(self) -> list[int]:
        pids = [self.pid]
        for pid in pids:  # it grows
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                pids += map(int, children.read_text().split())
        return pids


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])  # utime, stime: proc_pid_stat(5)


class Workbench:
    """A project generated for one kind of processing, with its environment."""

    def __init__(self, folder: Path, cores: Cores, processing: str) -> None:
        self.folder = folder
        self.cores = cores
        self.processing = processing
        self.project = bake(folder / processing, provider="stripe", processing=processing)
        (self.project.path / "app/handlers/stripe.py").write_text(HANDLER)
        self.project.run("uv sync --quiet --no-dev --compile-bytecode")
        self.python = f"{self.project.path}/.venv/bin/python"

    def environment(self, url: str = "", broker: str = "", **extra: str) -> dict[str, str]:
        """Return the settings of production."""
        settings = {"ENVIRONMENT": "production", "STRIPE_WEBHOOK_SECRET": SECRET}
        settings |= {"DATABASE_URL": url} if url else {}
        settings |= {"BROKER_URL": broker} if broker else {}
        return clean_environment(**settings | extra)

    @contextmanager
    def service(
        self, database: Database, broker: str = "", handler_seconds: float = 0
    ) -> Iterator[Pinned]:
        """Serve the project, whose handler takes that long."""
        extra = {"HANDLER_SECONDS": str(handler_seconds)}
        environment = self.environment(database.url, broker, **extra)
        with self._uvicorn("app.main:app", environment) as server:
            yield server

    @contextmanager
    def worker(self, database: Database, broker: str) -> Iterator[Pinned | None]:
        """Run a worker of the project, if it has one, on the core that sends."""
        if self.processing == "background":
            yield None
            return
        command = {"celery": "celery -A app.queue worker", "arq": "arq app.queue.WorkerSettings"}
        with Pinned(
            self.project.path,
            self.cores.load,
            f"{self.python} -m {command[self.processing]}",
            self.environment(database.url, broker),
        ) as process:
            yield process

    @contextmanager
    def baseline(self, name: str, database: Database | None = None) -> Iterator[Pinned]:
        """Serve what lies in baselines/, with the libraries and the uvicorn of the project."""
        url = database.url if database else ""
        environment = self.environment(url, PYTHONPATH=str(HERE / "baselines"))
        if name == "djstripe_site":
            with self._djstripe(environment) as server:
                yield server
        else:
            with self._uvicorn(f"{name}:app", environment) as server:
                yield server

    @contextmanager
    def _uvicorn(self, app: str, environment: dict[str, str]) -> Iterator[Pinned]:
        port = free_port()
        command = f"{self.python} -m uvicorn {app} --port {port} {SERVED}"
        with Pinned(self.project.path, self.cores.server, command, environment, port) as server:
            server.wait_for_port(port)
            yield server

    @contextmanager
    def _djstripe(self, environment: dict[str, str]) -> Iterator[Pinned]:
        bin = self._djstripe_environment() / "bin"
        self.run(f"{bin}/python {HERE}/baselines/djstripe_site.py", environment)
        port = free_port()
        command = (
            f"{bin}/gunicorn djstripe_site:application --bind 127.0.0.1:{port}"
            " --workers 1 --worker-class gthread --threads 4 --log-level warning"
        )
        with Pinned(self.project.path, self.cores.server, command, environment, port) as server:
            server.wait_for_port(port)
            yield server

    def _djstripe_environment(self) -> Path:
        folder = self.folder / "djstripe"
        failed = self.folder / "djstripe.failed"
        if failed.exists():
            raise Missing(failed.read_text())
        if not folder.exists():
            packages = f"--python {folder}/bin/python dj-stripe gunicorn psycopg[binary]"
            try:
                self.run(f"uv venv --quiet {folder}", clean_environment())
                self.run(f"uv pip install --quiet {packages}", clean_environment())
            except AssertionError as error:
                failed.write_text(f"dj-stripe does not install today: {error}")
                raise Missing(failed.read_text()) from None
        return folder

    def run(self, command: str, environment: dict[str, str], timeout: float = 600) -> str:
        """Run a command in the project's folder, on the core that serves; return its output."""
        done = subprocess.run(
            ["taskset", "--cpu-list", str(self.cores.server), *command.split()],
            cwd=self.project.path,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stderr}"
        return done.stdout

    def inside(self, script: str, arguments: str, environment: dict[str, str]) -> str:
        """Run a script of inside/ as if it lay in the project."""
        extra = {"PYTHONPATH": str(self.project.path)}
        return self.run(f"{self.python} {HERE}/inside/{script} {arguments}", environment | extra)

    @contextmanager
    def database(self, kind: str) -> Iterator[Database]:
        """Make an empty database, and remove it in the end.

        Raises:
            Missing: there is no server.
        """
        if kind == "SQLite":
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            with sqlite_database(folder) as database:
                yield database
            shutil.rmtree(folder)
        else:
            _require(POSTGRESQL)
            with postgresql_database(self.folder) as database:
                yield database

    @contextmanager
    def broker(self, kind: str) -> Iterator[str]:
        """Take an empty Redis database or RabbitMQ host; none if the kind is empty.

        Raises:
            Missing: there is no server.
        """
        if kind == "RabbitMQ":
            _require(RABBITMQ)
            with rabbitmq_vhost() as url:
                yield url
        elif kind == "Redis":
            _require(REDIS)
            _flush_redis()
            yield urlsplit(REDIS.url)._replace(path=f"/{REDIS_NUMBER}").geturl()
            _flush_redis()
        else:
            yield ""


@contextmanager
def workbenches(processings: list[str], cores: Cores) -> Iterator[dict[str, Workbench]]:
    """Generate projects in a folder that survives a reboot: in /tmp, fsync may cost nothing."""
    with (
        suppress(FileNotFoundError),
        tempfile.TemporaryDirectory(
            prefix="benchmarks-",
            dir="/var/tmp",
        ) as folder,
    ):
        yield {each: Workbench(Path(folder), cores, each) for each in processings}


def _require(service: Service) -> None:
    if not service.answers():
        url = urlsplit(service.url)
        where = f"{url.hostname}:{url.port}"
        raise Missing(f"{service.name} does not answer at {where}: set {service.variable}")
    if service is POSTGRESQL:
        try:
            psycopg.connect(service.url, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            raise Missing(f"PostgreSQL: {error}") from None


def _flush_redis() -> None:
    parts = urlsplit(REDIS.url)
    address = (parts.hostname or "", parts.port or 6379)
    login = f"AUTH {parts.password}\r\n" if parts.password else ""
    with socket.create_connection(address, 10) as redis, redis.makefile("rb") as answers:
        redis.sendall(f"{login}SELECT {REDIS_NUMBER}\r\nFLUSHDB\r\n".encode())
        for _ in range(3 if login else 2):
            assert answers.readline() == b"+OK\r\n"
