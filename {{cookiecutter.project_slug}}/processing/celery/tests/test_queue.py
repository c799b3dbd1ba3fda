"""A Celery worker lives as long as it can work, and the folder that is its broker cannot end it."""

import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app import queue
from app.main import app
from tests import worker
from tests.support import PATIENCE, Store, delivery, python, wait_for


@pytest.mark.skipif("TEST_BROKER_URL" in os.environ, reason="the broker is a real one")
def test_a_message_that_is_read_too_soon_does_not_end_the_worker(store: Store) -> None:
    empty = Path(queue.settings.broker_url.removeprefix(queue.FOLDER), "0_0.celery.msg")
    with worker.running() as process, TestClient(app) as client:
        empty.touch()
        wait_for(lambda: not empty.exists(), "the worker to take the message")
        sent = delivery()
        assert sent.post(client).status_code == 200
        store.wait(sent.id)
        assert process.poll() is None


def test_a_worker_whose_event_loop_has_ended_ends_too(client: TestClient) -> None:
    process = python("-c", LEAVES, measured=False)
    delivery().post(client)
    assert process.wait(PATIENCE) == 1


LEAVES = """
import asyncio, sys, uuid
from app import handlers
from app.queue import celery

async def leave():
    sys.exit()

async def handle(event):
    await asyncio.create_task(leave())

for name in handlers.load():
    handlers.load()[name] = handle
celery.worker_main(["worker", "--hostname", f"{uuid.uuid4()}@test"])
"""
