"""The service as a whole, in real processes: it handles, survives, shuts down, refuses to start."""

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from fastapi.testclient import TestClient

from app.config import settings
from app.database import metadata
from app.models import inbox
from tests import worker
from tests.effects import ORDER_SAMPLE, SUBSCRIPTION_SAMPLE
from tests.support import (
    FIXTURES,
    NAME,
    PATIENCE,
    ROOT,
    Server,
    Store,
    delivery,
    end,
    kill,
    needs_sigterm,
    python,
    wait_for,
)


def test_every_sample_is_handled(client: TestClient, store: Store) -> None:
    sent = [delivery(type) for type in FIXTURES]
    with worker.running():
        for each in sent:
            assert each.post(client).status_code == 200
        for each in sent:
            assert store.wait(each.id).attempts == 1


def test_what_becomes_of_an_event_is_logged_with_time_and_level(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    values = {"provider": NAME, "payload": b"{}", "due_at": 0, "attempt_limit": 3}
    for id, attempts in (("evt_unknown", 0), ("evt_dead", 3)):
        event = {"event_id": id, "type": "nobody.knows", "attempts": attempts}
        store.change(inbox.insert().values(values | event))
    output = ""

    def logged() -> bool:
        nonlocal output
        output += "".join(capfd.readouterr())
        time = r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
        unknown = rf"{time} INFO app\.\S+: .*nobody\.knows evt_unknown$"
        dead = rf"{time} ERROR app\.\S+: .* evt_dead .* dead$"
        return all(re.search(line, output) for line in (unknown, dead))

    with worker.running():
        server = Server()
        wait_for(logged, "both to be logged")
        server.end()


def test_an_event_that_is_due_again_is_handled(client: TestClient, store: Store) -> None:
    sent = delivery()
    with worker.running():
        sent.post(client)
        store.wait(sent.id)
        store.change("UPDATE inbox SET state = 'pending', due_at = 0, finished_at = NULL")
        assert store.wait(sent.id).attempts == 2


def test_a_flood_is_handled_a_few_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDLER_SECONDS", "0.5")
    monkeypatch.setenv("HANDLER_TIMEOUT_SECONDS", "60")
    sent = [delivery() for _ in range(3 * settings.concurrency)]
    most = 0
    with worker.running("tests.slow"):
        server = Server("tests.slow:app")
        assert set(server.post(*sent)) == {200}

        def all_are_done() -> bool:
            nonlocal most
            rows = store.rows()
            most = max(most, sum(row.state == "pending" and row.attempts == 1 for row in rows))
            return {row.state for row in rows} == {"done"}

        wait_for(all_are_done, "all to be done")
        server.end()
    assert 1 < most <= settings.concurrency


def test_while_the_workers_are_away_events_wait(client: TestClient, store: Store) -> None:
    if worker.IN_PROCESS:
        pytest.skip("this service is its own worker")
    sent = [delivery() for _ in range(5)]
    for each in sent:
        assert each.post(client).status_code == 200
    time.sleep(settings.handover_seconds * 1.2)
    assert {row.state for row in store.rows()} == {"pending"}
    with worker.running():
        for each in sent:
            store.wait(each.id)


def test_a_crash_between_acknowledgement_and_effect_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed, unclaimed = delivery(SUBSCRIPTION_SAMPLE), delivery(ORDER_SAMPLE)
    monkeypatch.setenv("HANDLER_SECONDS", "60")
    with worker.running("tests.slow") as workers:
        server = Server("tests.slow:app")
        assert server.post(claimed) == [200]
        wait_for(lambda: store.row(claimed.id).attempts == 1, "the attempt to begin")
        assert server.post(unclaimed) == [200]
        for process in filter(None, (server.process, workers)):
            kill(process)
    assert {row.state for row in store.rows()} == {"pending"}
    assert store.effects() == 0

    with worker.running():
        server = Server()
        for each in (claimed, unclaimed):
            store.wait(each.id)
        server.end()
    assert store.effects() == 2


@needs_sigterm
def test_a_shutdown_waits_for_what_is_being_handled(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDLER_SECONDS", "0.5")
    monkeypatch.setenv("HANDLER_TIMEOUT_SECONDS", "60")
    sent = delivery()
    with worker.running("tests.slow") as workers:
        server = Server("tests.slow:app")
        server.post(sent)
        wait_for(lambda: store.row(sent.id).attempts == 1, "the attempt to begin")
        server.end()
        if workers is not None:
            end(workers)
    assert (store.row(sent.id).state, store.effects()) == ("done", 1)


@needs_sigterm
def test_a_client_that_asks_for_a_websocket_cannot_spoil_the_shutdown() -> None:
    server = Server()
    with socket.create_connection(server.address, timeout=10) as client:
        client.sendall(b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        answer = client.recv(100)
        assert server.end() in (0, -signal.SIGTERM)
    assert answer.startswith(b"HTTP/1.1 404")


@needs_sigterm
def test_a_shutdown_does_not_wait_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HANDLER_SECONDS": "60", "DRAIN_SECONDS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HANDLER_TIMEOUT_SECONDS", "60")
    sent = delivery()
    with worker.running("tests.slow") as workers:
        server = Server("tests.slow:app", measured=True)
        server.post(sent)
        wait_for(lambda: store.row(sent.id).attempts == 1, "the attempt to begin")
        begun = time.monotonic()
        server.end()
        if workers is not None:
            end(workers)
        assert time.monotonic() - begun < 15
    row = store.row(sent.id)
    assert (row.state, store.effects()) == ("pending", 0)
    assert row.due_at <= time.time()  # it was given back, and need not wait for its lease


@needs_sigterm
def test_a_handler_that_ignores_its_cancellation_does_not_keep_the_process(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"HANDLER_SECONDS": "inf", "DRAIN_SECONDS": "0.1"}.items():
        monkeypatch.setenv(name, value)
    sent = delivery()
    with worker.running("tests.slow") as workers:
        server = Server("tests.slow:app")
        server.post(sent)
        wait_for(lambda: store.row(sent.id).attempts == 1, "the attempt to begin")

        assert end(server.process if workers is None else workers) == 1

    assert store.row(sent.id).state == "pending"


def test_processes_may_start_at_once_on_an_empty_database(store: Store) -> None:
    metadata.drop_all(store.engine)
    servers = [python("-c", STARTS, measured=False) for _ in range(3)]
    assert [server.wait(60) for server in servers] == [0] * 3
    assert store.rows() == []


STARTS = """
import asyncio
from app.main import app
from app.inbox import Inbox

async def start():
    inbox = Inbox()
    assert await inbox.claim_due(1) == []
    await inbox.close()

asyncio.run(start())
"""


SECRETS = {name: "0f1e2d3c4b5a" for name in os.environ if re.search("WEBHOOKS?_SECRET$", name)}


class Started(NamedTuple):
    """How the start of a service ended, and what it printed."""

    status: int
    output: str
    errors: str


@pytest.fixture
def start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Started]:
    """Start the service in production, in a folder without a .env, and end it."""
    monkeypatch.delenv("ENVIRONMENT")

    def start(**environment: str) -> Started:
        environment = worker.PRODUCTION | {"PYTHONPATH": str(ROOT)} | SECRETS | environment
        code = "import app.main"
        process = python("-c", code, measured=False, folder=tmp_path, **environment)
        return Started(process.wait(PATIENCE), *capfd.readouterr())

    return start


def test_production_is_the_default_and_starts_with_real_secrets(
    start: Callable[..., Started],
) -> None:
    assert start()[:2] == (0, "")


@pytest.mark.parametrize("value", [" , ", "good,change-me", "\udcff" * 16])
@pytest.mark.parametrize("name", SECRETS)
def test_production_does_not_start_without_a_real_secret(
    start: Callable[..., Started], name: str, value: str
) -> None:
    refused = start(**{name: value})

    assert refused.status == 1
    assert len(refused.errors.strip().splitlines()) == 1
    assert name in refused.errors
    assert value not in refused.errors


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://host:port/inbox"),
        ("DATABASE_URL", "sqlite://"),
    ],
)
def test_a_setting_without_a_usable_value_is_named(
    start: Callable[..., Started], name: str, value: str
) -> None:
    refused = start(**{name: value})

    assert refused.status == 1
    assert len(refused.errors.strip().splitlines()) == 1
    assert name in refused.errors


@pytest.mark.skipif(worker.IN_PROCESS, reason="this service has no broker")
def test_production_does_not_start_without_a_broker(start: Callable[..., Started]) -> None:
    refused = start(BROKER_URL="")
    assert refused.status == 1
    assert "BROKER_URL" in refused.errors
    assert len(refused.errors.strip().splitlines()) == 1
