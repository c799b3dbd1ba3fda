"""Messages in a broker, and Celery's worker that takes them. The broker is a folder."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.inbox.inbox import Inbox
from app.processing import broker
from app.processing.queue import Queue, broker_problem
from tests.delivery import Database
from tests.engine.service import delivery
from tests.engine.store import make_due, stored

pytestmark = pytest.mark.anyio

LOOKS = 200  # whether a worker has handled an event, ten a second


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is the broker."""
    monkeypatch.setattr(broker, "url", f"filesystem://{tmp_path}")
    return tmp_path


@pytest.fixture
async def queue(inbox: Inbox, folder: Path) -> AsyncIterator[Queue]:
    queue = Queue(inbox, {})
    yield queue
    await queue.close()


@pytest.fixture
def worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A worker process, ended after the test."""
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tests.engine.worker_app", "worker"],
        env=os.environ | {"BROKER_URL": f"filesystem://{folder}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def messages(folder: Path) -> list[Any]:
    return [json.loads(file.read_text("utf-8")) for file in folder.glob("*.msg")]


def lose_messages(folder: Path) -> None:
    for file in folder.glob("*.msg"):
        file.unlink()


@pytest.mark.processes
async def test_a_worker_handles_what_is_dispatched_and_ends_when_told_to(
    queue: Queue, inbox: Inbox, database: Database, worker: subprocess.Popen[str]
) -> None:
    await inbox.add("test", delivery())
    assert await queue.dispatch() == 1

    for _ in range(LOOKS):
        if (await stored(database)).state == "done":
            break
        await asyncio.sleep(0.1)
    worker.send_signal(signal.SIGTERM)

    assert (await stored(database)).state == "done"
    assert worker.wait(timeout=10) == 0


async def test_a_message_is_json_and_carries_a_reference_only(
    queue: Queue, inbox: Inbox, database: Database, folder: Path
) -> None:
    await inbox.add("test", delivery())
    await queue.dispatch()

    [message] = messages(folder)
    arguments, keywords, _ = json.loads(base64.b64decode(message["body"]))

    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == broker.ATTEMPT
    assert arguments == [(await stored(database)).id, 0]
    assert keywords == {}


def test_queue_and_task_carry_the_name_of_the_project(folder: Path) -> None:
    name = broker.project_name()

    assert broker.make_celery().conf.task_default_queue == name
    assert f"{name}.attempt" == broker.ATTEMPT
    assert broker.make_celery().conf.accept_content == ["json"]


async def test_without_a_broker_the_events_are_due_again_at_once(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "url", "amqp://127.0.0.1:1")
    queue = Queue(inbox, {})
    await inbox.add("test", delivery())

    with pytest.raises(Exception, match=r"refused|111"):
        await queue.dispatch()

    assert [claim.event_id for claim in await inbox.claim_due(1)] == ["evt_1"]


async def test_the_check_says_whether_the_broker_answers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await broker_problem() == ""
    monkeypatch.setattr(broker, "url", "amqp://user:secret@127.0.0.1:1")

    problem = await broker_problem()
    assert problem is not None
    assert problem.startswith("BROKER_URL: ")
    assert problem.endswith(": is it running?")
    assert "secret" not in problem


async def test_a_lost_message_is_dispatched_again(
    queue: Queue, inbox: Inbox, database: Database, folder: Path
) -> None:
    await inbox.add("test", delivery())
    await queue.dispatch()
    lose_messages(folder)
    await make_due(database)

    assert await queue.dispatch() == 1


@pytest.mark.parametrize(
    ("url", "environment", "problem"),
    [
        ("", "production", "BROKER_URL is not set: use "),
        ("filesystem://.broker", "production", "BROKER_URL is a folder, for development only"),
        ("memory://", "development", "BROKER_URL is not a valid URL"),
        ("sqs://host", "development", "BROKER_URL names sqs: use "),
        ("sentinel://host", "development", "BROKER_URL names sentinel: use "),
        ("redis://host:port", "development", "BROKER_URL is not a valid URL"),
        ("redis://host/name", "development", "BROKER_URL: Redis has numbers for databases"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, environment: str, problem: str) -> None:
    with pytest.raises(SystemExit) as refusal:
        broker.parse_url(url, environment)

    assert str(refusal.value).startswith(problem)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "url", ["redis://host:6379/", "rediss://:p%40ss@host:6379/1", "amqp://user:pass@host", ""]
)
def test_a_url_that_can_be_used_is_accepted(url: str) -> None:
    assert broker.parse_url(url, "development")
