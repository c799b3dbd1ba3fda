"""The servers that the live tests use where they answer."""

import os
import shutil
import socket
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlsplit

import pytest


@dataclass(frozen=True)
class Service:
    """A server, at the URL its variable holds or else where it runs on a developer's machine."""

    name: str
    variable: str
    default: str

    @property
    def url(self) -> str:
        return os.environ.get(self.variable) or self.default

    def answers(self) -> bool:
        """Tell if something listens there."""
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


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it in CI."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def require_program(name: str, *folders: str) -> str:
    """Return where a program is, in PATH or else in folders; without it, skip or fail the test."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *folders]))
    if found is None:
        missing(f"{name} is not installed")
    return found


POSTGRESQL = Service("PostgreSQL", "TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")
REDIS = Service("Redis", "TEST_REDIS_URL", "redis://127.0.0.1:6379")
RABBITMQ = Service("RabbitMQ", "TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
