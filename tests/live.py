"""Generated projects at work: their processes, what they talk to, and who sends to them."""

import atexit
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import psycopg
from forks import Fork, Forks, ForkServer
from project import Project, clean_environment
from services import POSTGRESQL, RABBITMQ, REDIS

PATIENCE = 120  # seconds: long for a busy machine, and no test waits that long when all is well
PYTHON = ".venv/bin/python -m "
# In a fork, which has imported libraries that are plugins too: their asserts are of no interest.
PYTEST = ("pytest", "-Wignore::pytest.PytestAssertRewriteWarning")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so; fail if it does not become so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.05)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@cache
def _own_ports() -> Iterator[int]:
    """Take a hundred ports, less the first: who listens on that has the others.

    No client is given one of them: it would take it while its server is away.
    """
    while True:
        first = random.SystemRandom().randrange(20_000, 32_000, 100)  # systems' own begin at 32768
        with suppress(OSError):
            atexit.register(socket.create_server(("127.0.0.1", first)).close)
            return cycle(range(first + 1, first + 100))


def free_port() -> int:
    """Return a port where nobody listens, nor will: other processes of tests have others."""
    while True:
        port = next(_own_ports())
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@cache
def _forks_in(environment: Path) -> Forks:
    server = ForkServer(environment / "bin/python", clean_environment())
    atexit.register(server.close)
    return server


def forks_of(project: Project) -> Forks:
    """Return what starts forks in the environment of a project, one for all that share it."""
    return _forks_in((project.path / ".venv").resolve())


class Process:
    """A command that stays, with all the processes it starts.

    It is given to `forks`, if any, and then has to be a Python module.
    """

    def __init__(
        self, folder: Path, command: str, environment: dict[str, str], forks: Forks | None = None
    ) -> None:
        self._command = command
        self._is_over = False
        self._log = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.log")
        self._process: Fork | subprocess.Popen[bytes]
        if forks:
            self._log.touch()
            arguments = command.removeprefix(PYTHON).split()
            self._process = forks.start(folder, environment, arguments, self._log, self._log)
            return
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command.split(),
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def printed(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def resident_megabytes(self) -> float:
        """The memory of the process that was started, without those it started."""
        asked = ["ps", "-o", "rss=", "-p", str(self._process.pid)]
        done = subprocess.run(asked, capture_output=True, check=True, encoding="ascii")
        return round(int(done.stdout) / 1000, 1)

    def check(self) -> None:
        """Fail if it ended, with what it printed."""
        status = self._process.poll()
        assert status is None, f"{self._command} ended with {status}:\n{self.printed}"

    def wait_for_port(self, port: int) -> None:
        def answers() -> bool:
            self.check()
            return listens(port)

        wait_for(answers, f"{self._command} to listen on port {port}")

    def send(self, what: signal.Signals) -> None:
        """Send a signal to all of it."""
        os.killpg(self._process.pid, what)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal, as a supervisor does, wait for the end, and kill what is left of it."""
        if self._is_over:  # its id may be another's by now
            return
        self._process.send_signal(how)
        self._process.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._is_over = True

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@dataclass(frozen=True)
class Delivery:
    """A request of the provider."""

    body: str
    headers: dict[str, str]


# Signs events as the project itself does, all in one process: importing an SDK takes its time.
SIGN = """
import json, sys
from app import providers
from samples import delivery
[name] = providers.load()
type, *ids = sys.argv[1:]
for id in ids:
    _, body, headers = delivery(name, type, id)
    print(json.dumps([body.decode(), headers]))
"""


def deliveries(project: Project, type: str, number: int) -> list[Delivery]:
    """Return that many signed events made of one sample, each with an id of its own."""
    ids = [f"evt_{uuid.uuid4().hex}" for _ in range(number)]
    lines = ask(project, SIGN, type, *ids).splitlines()
    return [Delivery(*json.loads(line)) for line in lines]


def ask(project: Project, code: str, *arguments: str, stdin: str = "") -> str:
    """Run Python code in a project's environment and return what it printed."""
    done = subprocess.run(
        [project.path / ".venv/bin/python", "-c", code, *arguments],
        cwd=project.path,
        env=clean_environment(PYTHONUTF8="1"),
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Server(Process):
    """The service of a project, on a port of its own."""

    def __init__(
        self, project: Project, environment: dict[str, str], app: str, *, forked: bool = True
    ) -> None:
        self.port = free_port()
        command = f"{PYTHON}uvicorn {app} --port {self.port}"
        forks = forks_of(project) if forked else None
        super().__init__(project.path, command, clean_environment(**environment), forks)
        self.wait_for_port(self.port)

    def post(self, *sent: Delivery, path: str = "/webhooks/stripe") -> list[int]:
        """Deliver, and return the statuses of the answers."""
        return [post(self.port, each, path) for each in sent]


def post(port: int, sent: Delivery, path: str = "/webhooks/stripe") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("POST", path, sent.body.encode(), sent.headers)
    status = connection.getresponse().status
    connection.close()
    return status


WORKERS = {"celery": "celery -A {app}:celery worker", "arq": "arq {app}.WorkerSettings"}


def worker(project: Project, processing: str, environment: dict[str, str], app: str) -> Process:
    command = PYTHON + WORKERS[processing].format(app=app)
    return Process(project.path, command, clean_environment(**environment), forks_of(project))


@dataclass(frozen=True)
class Database:
    """A database, seen past the project."""

    url: str

    def rows(self, query: str) -> list[tuple[object, ...]]:
        if self.url.startswith("sqlite:///"):
            connection = sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=PATIENCE)
            try:
                return connection.execute(query).fetchall()
            finally:
                connection.close()
        with psycopg.connect(self.url) as database:
            return database.execute(query.encode()).fetchall()

    def count(self, condition: str) -> int:
        """Count the events for which this is so."""
        [(number,)] = self.rows(f"SELECT count(*) FROM inbox WHERE {condition}")  # noqa: S608
        assert isinstance(number, int)
        return number

    def periods_paid(self) -> int:
        """Return the effect of the samples of `invoice.paid`: each adds one."""
        rows = self.rows("SELECT periods_paid FROM subscriptions")
        return sum(number for (number,) in rows if isinstance(number, int))

    def wait_until_all_are_done(self, number: int) -> None:
        wait_for(lambda: self.count("state = 'done'") == number, f"{number} events to be done")


@contextmanager
def sqlite_database(folder: Path) -> Iterator[Database]:
    yield Database(f"sqlite:///{folder / 'live.db'}")


@contextmanager
def postgresql_database(_: Path) -> Iterator[Database]:
    """Make a database on the server, and remove it in the end."""
    server = POSTGRESQL.require()
    name = f"webhooks_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield Database(urlsplit(server)._replace(path=f"/{name}").geturl())
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


Databases = dict[str, Callable[[Path], AbstractContextManager[Database]]]
DATABASES: Databases = {"sqlite": sqlite_database, "postgresql": postgresql_database}


@contextmanager
def redis_database() -> Iterator[str]:
    """Take one of Redis's numbered databases, a high one, empty it before and after."""
    server = REDIS.require()
    # Each process of the tests has its own number, and runs one test at a time.
    number = 15 - int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    parts = urlsplit(server)

    def flush() -> None:
        address = (parts.hostname or "", parts.port or 6379)
        with socket.create_connection(address, PATIENCE) as redis, redis.makefile("rb") as answers:
            login = f"AUTH {parts.password}\r\n" if parts.password else ""
            redis.sendall(f"{login}SELECT {number}\r\nFLUSHDB\r\n".encode())
            for _ in range(3 if login else 2):
                assert answers.readline() == b"+OK\r\n"

    flush()
    yield parts._replace(path=f"/{number}").geturl()
    flush()


@contextmanager
def rabbitmq_vhost() -> Iterator[str]:
    """Make a virtual host where we may, or else use what the URL names: old messages do no harm."""
    server = RABBITMQ.require()
    name = f"webhooks_{uuid.uuid4().hex}"
    user = urlsplit(server).username or "guest"

    def control(*arguments: str) -> bool:
        command = ("rabbitmqctl", "--quiet", *arguments)
        return not subprocess.run(command, capture_output=True, timeout=60, check=False).returncode

    if not (shutil.which("rabbitmqctl") and control("add_vhost", name)):
        yield server
        return
    control("set_permissions", "-p", name, user, ".*", ".*", ".*")
    yield urlsplit(server)._replace(path=f"/{name}").geturl()
    control("delete_vhost", name)


BROKERS = {"redis": redis_database, "rabbitmq": rabbitmq_vhost}


class Line:
    """A line to a server, that can be cut and mended."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._far = (parts.hostname or "", parts.port or 0)
        self._connections: list[socket.socket] = []
        self._listen(0)
        self._port: int = self._listener.getsockname()[1]
        login, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{login}{at}127.0.0.1:{self._port}").geturl()

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def mend(self) -> None:
        self._listen(self._port)

    def _listen(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._far)
                self._connections += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
    source.close()


SERVER = re.compile(r"^(?:uv run )?(?:uvicorn |celery .*\bworker\b|arq )")
PORT = 8000  # where uvicorn listens unless it is told otherwise
TURN = 18000  # who holds this port may use the other one


def take_turn() -> socket.socket:
    """Wait until no other test uses PORT; the turn ends when the socket is closed."""
    deadline = time.monotonic() + 600
    while True:
        try:
            return socket.create_server(("127.0.0.1", TURN))
        except OSError:
            assert time.monotonic() < deadline, f"another test holds port {PORT} for long"
            time.sleep(0.2)


class Terminal:
    """Where commands are typed one after another: servers stay, all others end."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self._state = folder.with_name(f"{folder.name}.state")
        self._environment = clean_environment(**environment)
        self._servers: dict[str, Process] = {}
        self._turn: socket.socket | None = None

    def type(self, line: str) -> str:
        """Run what a reader would type, and return its output; a server is left running."""
        *before, last = line.strip().split(" && ")
        last = re.sub(r"\s+#.*", "", last)
        if not SERVER.match(last):
            return self._run(line)
        for command in before:
            self._run(command)
        self._start(last)
        return ""

    def close(self) -> None:
        """End the servers; fail if one of them has ended by itself."""
        servers = list(self._servers.values())
        self._servers.clear()
        printed = [server.printed for server in servers if server.ended]
        for server in servers:
            server.end()
        assert not printed, "a server ended:\n" + "\n".join(printed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        if failure is None:
            self.close()
        for server in self._servers.values():
            server.kill()
        if self._turn is not None:
            self._turn.close()

    def _run(self, command: str) -> str:
        # The folder and the variables that a command leaves behind are the next one's.
        script = f'{command}\n{{ printf "%s\\0" "$PWD"; env -0; }} > "{self._state}"'
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self._environment,
            input="\n" * 100,  # whatever is asked, Enter takes the default
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=600,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, f"{command}\nexited with {done.returncode}:\n{printed}"
        folder, *variables = self._state.read_text(encoding="utf-8").split("\0")
        self.folder = Path(folder)
        self._environment = dict(each.split("=", 1) for each in variables if each)
        return done.stdout

    def _start(self, command: str) -> None:
        kind = command.removeprefix("uv run ").split()[0]
        if kind in self._servers:  # whoever starts it anew has ended the old one first
            self._servers.pop(kind).end()
        if kind == "uvicorn" and self._turn is None:
            self._turn = take_turn()
        if kind == "uvicorn":
            wait_for(lambda: not listens(PORT), f"port {PORT} to be free")
        server = self._servers[kind] = Process(self.folder, command, self._environment)
        if kind == "uvicorn":
            server.wait_for_port(PORT)
