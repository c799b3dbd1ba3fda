"""The broker of development: a folder, in which a message may be read before it is written."""

import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app import queue
from app.main import app
from tests import worker
from tests.support import Store, delivery, wait_for


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
