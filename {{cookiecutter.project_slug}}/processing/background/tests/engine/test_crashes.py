"""The service as a process that is killed, or asked to end, while it handles an event."""

import signal
import sys
import time
import urllib.request

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from app.inbox.table import webhook_events
from app.processing.queue import Queue
from tests.delivery import Database
from tests.engine.process import PATIENCE, Server, server
from tests.engine.service import URL, application, body, effects, signed

pytestmark = pytest.mark.processes


def rows(database: Database, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
    """Return the rows of a table."""
    with database.engine.begin() as connection:
        return list(connection.execute(sa.select(table)))


def begin(database: Database, running: Server, seconds: float) -> None:
    """Deliver an event whose handler takes a while, and wait until it has begun."""
    payload = body(seconds=seconds)
    request = urllib.request.Request(running.url + URL, payload, signed(payload))  # noqa: S310
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
        assert answer.status == 200
    running.wait_for(lambda: rows(database, webhook_events)[0].attempts == 1)


def test_an_event_in_progress_survives_a_kill(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server() as killed:
        begin(database, killed, seconds=60)
        killed.process.kill()
        killed.process.wait()
    assert rows(database, effects) == []

    with database.engine.begin() as connection:  # its lease expires, and its handler is quick now
        connection.execute(sa.update(webhook_events).values(due_at=0, payload=body()))
    monkeypatch.setattr("app.processing.dispatcher.Queue", Queue)
    with TestClient(application()):
        deadline = time.monotonic() + PATIENCE
        while rows(database, webhook_events)[0].state == "pending":
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert rows(database, effects) == [("evt_1",)]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_an_event_in_progress_is_handled_before_the_process_ends(database: Database) -> None:
    with server() as ending:
        begin(database, ending, seconds=0.3)

        ending.process.send_signal(signal.SIGTERM)

        assert ending.process.wait(PATIENCE) in (0, -signal.SIGTERM)
    assert rows(database, effects) == [("evt_1",)]
    assert rows(database, webhook_events)[0].state == "done"
