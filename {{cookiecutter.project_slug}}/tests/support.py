"""What the tests share: deliveries as the provider makes them, and a look into the database."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy as sa

import samples
from app import providers
from app.events import Event
from app.inbox import Inbox
from app.models import inbox
from app.processing import process

ROOT = Path(__file__).parents[1]
NAME = next(iter(providers.load()))
URL = f"/webhooks/{NAME}"
FIXTURES = samples.fixtures(NAME)
PATIENCE = 60  # seconds: long for a busy machine, and no test waits that long when all is well
started: list[subprocess.Popen[bytes]] = []
"""Processes of the test under way; those still running at its end are killed."""


@dataclass(frozen=True)
class Delivery:
    """A request that the provider makes."""

    id: str
    body: bytes
    headers: dict[str, str]

    def post(self, client: httpx2.Client) -> httpx2.Response:
        """Make the request."""
        return client.post(URL, content=self.body, headers=self.headers)


def delivery(type: str | None = None, provider: str = NAME) -> Delivery:
    """Return a signed delivery of a sample, the first one unless `type` names another."""
    return Delivery(*samples.delivery(provider, type or next(iter(samples.fixtures(provider)))))


def event(id: str | None = None, type: str = "test.happened") -> Event:
    """Return an event as a verifier would."""
    id = id or f"evt_{uuid.uuid4().hex}"
    data = {"id": id, "type": type, "data": {"object": {}}}
    return Event(NAME, id, type, json.dumps(data).encode(), data)


async def handle(inbox: Inbox, provider: str, type: str) -> None:
    """Let a sample arrive and be handled in this process."""
    sent = delivery(type, provider)
    await inbox.add(Event(provider, sent.id, type, sent.body, json.loads(sent.body)))
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


class Server:
    """A service of its own: a real process behind a real socket."""

    def __init__(self, app: str = "app.main:app", measured: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address: tuple[str, int] = free.getsockname()
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

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the process with a signal and return its exit status."""
        return end(self.process, how)


def python(*arguments: str, measured: bool = True, **environment: str) -> subprocess.Popen[bytes]:
    """Start Python with the tests' environment; without measuring coverage it starts faster."""
    environment = os.environ | environment
    if not measured:
        environment.pop("COVERAGE_PROCESS_CONFIG", None)
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment)
    started.append(process)
    return process


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> int:
    """End a process that the tests started and return its exit status."""
    process.send_signal(how)
    return process.wait(PATIENCE)
