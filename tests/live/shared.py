"""The servers that tests share, if they answer; each test has a separate place in them."""

import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlsplit

import pytest

SECONDS = 60  # for a command of RabbitMQ, or an answer of Redis


@dataclass(frozen=True)
class SharedServer:
    """A server, at the URL in a variable, or else where it runs on a developer's machine."""

    name: str
    variable: str
    default: str

    @property
    def url(self) -> str:
        return os.environ.get(self.variable) or self.default

    def answers(self) -> bool:
        """Return whether something listens there."""
        parts = urlsplit(self.url)
        try:
            socket.create_connection((parts.hostname, parts.port), timeout=2).close()
        except OSError:
            return False
        return True

    def require(self) -> str:
        """Return the URL; without a server there, skip the test, or fail it in CI."""
        if not self.answers():
            missing(f"{self.name} does not answer at {self.url}: set {self.variable}")
        return self.url


POSTGRESQL = SharedServer(
    "PostgreSQL", "TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test"
)
REDIS = SharedServer("Redis", "TEST_REDIS_URL", "redis://127.0.0.1:6379")
RABBITMQ = SharedServer("RabbitMQ", "TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it in CI."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def require_program(name: str, *folders: str) -> str:
    """Return the path of a program in PATH or the folders; without it, skip or fail the test."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *folders]))
    if found is None:
        missing(f"{name} is not installed")
    return found


@contextmanager
def redis_database() -> Iterator[str]:
    """Take one of Redis's numbered databases, a high one, and empty it before and after."""
    server = urlsplit(REDIS.require())
    # Each process of the tests has its own number, and runs one test at a time.
    number = 15 - int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    url = server._replace(path=f"/{number}").geturl()
    redis(url, "FLUSHDB")
    yield url
    redis(url, "FLUSHDB")


def redis(url: str, *commands: str) -> None:
    """Carry out commands that Redis answers with OK."""
    parts = urlsplit(url)
    login = [f"AUTH {parts.password}"] if parts.password else []
    number = parts.path.strip("/") or "0"
    address = (parts.hostname or "", parts.port or 6379)
    with socket.create_connection(address, SECONDS) as server, server.makefile("rb") as answers:
        for command in (*login, f"SELECT {number}", *commands):
            server.sendall(f"{command}\r\n".encode())
            answer = answers.readline()
            assert answer == b"+OK\r\n", f"{command.split()[0]}: {answer!r}"


@contextmanager
def rabbitmq_vhost() -> Iterator[str]:
    """Make a virtual host if that is allowed, or use the URL's: old messages do no harm."""
    server = RABBITMQ.require()
    name = f"webhooks_{uuid.uuid4().hex}"
    user = urlsplit(server).username or "guest"
    if not _control("add_vhost", name):
        yield server
        return
    _control("set_permissions", "-p", name, user, ".*", ".*", ".*")
    yield urlsplit(server)._replace(path=f"/{name}").geturl()
    _control("delete_vhost", name)


def _control(*arguments: str) -> bool:
    if not shutil.which("rabbitmqctl"):
        return False
    command = ("rabbitmqctl", "--quiet", *arguments)
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    return done.returncode == 0


Brokers = dict[str, Callable[[], AbstractContextManager[str]]]
BROKERS: Brokers = {"redis": redis_database, "rabbitmq": rabbitmq_vhost}
