"""What the tests share: deliveries as the provider makes them, and a look into the database."""

import atexit
import json
import os
import random
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

import samples
from app.database import is_sqlite
from app.events import Event
from app.inbox import Inbox
from app.models import inbox
from app.processing import process
from tests import effects

ROOT = Path(__file__).parents[1]
NAME = effects.PROVIDER
URL = f"/webhooks/{NAME}"
FIXTURES = samples.fixtures(NAME)
PATIENCE = 60  # seconds: long for a busy machine, and no test waits that long when all is well
Refusals = list[str]
started: list[subprocess.Popen[bytes]] = []
"""Processes of the test under way; those still running at its end are killed."""
needs_sigterm = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")


def on_postgresql(reason: str) -> pytest.MarkDecorator:
    """Skip a test on SQLite, for a reason."""
    return pytest.mark.skipif(is_sqlite, reason=reason)


def on_sqlite(reason: str) -> pytest.MarkDecorator:
    """Skip a test on PostgreSQL, for a reason."""
    return pytest.mark.skipif(not is_sqlite, reason=reason)


@dataclass(frozen=True)
class Delivery:
    """A request that the provider makes."""

    id: str
    body: bytes
    headers: dict[str, str]

    def post(self, client: httpx2.Client) -> httpx2.Response:
        """Make the request."""
        return client.post(URL, content=self.body, headers=self.headers)


def delivery(type: str = effects.SUBSCRIPTION_SAMPLE, provider: str = NAME) -> Delivery:
    """Return a signed delivery of a sample."""
    return Delivery(*samples.delivery(provider, type))


def event(id: str | None = None, type: str = "test.happened") -> Event:
    """Return an event as a verifier would."""
    id = id or f"evt_{uuid.uuid4().hex}"
    data = {"id": id, "type": type, "data": {"object": {}}}
    return Event(NAME, id, type, json.dumps(data).encode(), data)


async def handle(inbox: Inbox, provider: str, type: str, **changes: object) -> None:
    """Let a sample arrive, with changes to its object if any, and be handled in this process."""
    sent = delivery(type, provider)
    data = json.loads(sent.body)
    for name, value in changes.items():
        data["data"]["object"][name] = value
    await inbox.add(Event(provider, sent.id, type, json.dumps(data).encode(), data))
    [claim] = await inbox.claim_due(1)
    await process(inbox, claim)


class Store:
    """The database, seen past the service."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def rows(self, table: sa.Table = inbox) -> list[Any]:
        """Return all rows of a table."""
        with self.engine.begin() as connection:
            return list(connection.execute(sa.select(table).order_by(*table.primary_key)))

    def row(self, id: str) -> Any:
        """Return the row of one event."""
        return next(row for row in self.rows() if row.event_id == id)

    def effects(self) -> int:
        """Count what the handlers of the samples have done."""
        return sum(len(self.rows(table)) for table in effects.TABLES)

    def change(self, statement: str | sa.Executable) -> None:
        """Change something behind the service's back."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement) if isinstance(statement, str) else statement)

    def wait(self, id: str, state: str = "done") -> Any:
        """Return the row of an event once it is in a state."""
        wait_for(lambda: self.row(id).state == state, f"{id} to be {state}")
        return self.row(id)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so; fail if it does not become so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.02)


@cache
def own_ports() -> Iterator[int]:
    """Take a hundred ports, less the first: who listens on that has the others.

    No client is given one of them: it could take it before its server does.
    """
    while True:
        first = random.SystemRandom().randrange(20_000, 32_000, 100)  # systems' own begin at 32768
        with suppress(OSError):
            atexit.register(socket.create_server(("127.0.0.1", first)).close)
            return cycle(range(first + 1, first + 100))


def free_port() -> int:
    """Return a port where nobody listens, nor will: tests that run beside these have others."""
    while True:
        port = next(own_ports())
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Server:
    """A service of its own: a real process behind a real socket."""

    def __init__(self, app: str = "app.main:app", measured: bool = False) -> None:
        self.address = ("127.0.0.1", free_port())
        self.url = f"http://127.0.0.1:{self.address[1]}"
        port = str(self.address[1])
        self.process = python("-m", "uvicorn", app, "--port", port, measured=measured)
        wait_for(self._listens, f"{app} to start")

    def _listens(self) -> bool:
        assert self.process.poll() is None, "the service ended"
        try:
            socket.create_connection(self.address, timeout=1).close()
        except OSError:
            return False
        return True

    def post(self, *deliveries: Delivery) -> list[int]:
        """Deliver to this service, and return the statuses of its answers."""
        with httpx2.Client(base_url=self.url, timeout=PATIENCE) as client:
            return [each.post(client).status_code for each in deliveries]

    def end(self) -> int:
        """Ask the process to end and return its exit status."""
        return end(self.process)


def python(
    *arguments: str, measured: bool = True, folder: Path = ROOT, **environment: str
) -> subprocess.Popen[bytes]:
    """Start Python with the tests' environment; without measuring coverage it starts faster."""
    environment = os.environ | environment
    if not measured:
        environment.pop("COVERAGE_PROCESS_CONFIG", None)
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment)
    started.append(process)
    return process


def end(process: subprocess.Popen[bytes]) -> int:
    """Ask a process that the tests started to end, and return its exit status."""
    process.terminate()
    return process.wait(PATIENCE)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that the tests started, whatever it is doing."""
    process.kill()
    process.wait(PATIENCE)
