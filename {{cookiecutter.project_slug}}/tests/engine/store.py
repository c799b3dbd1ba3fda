"""The database behind the engine: to look into it, and to make it misbehave."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from app.database import is_sqlite
from app.inbox.table import webhook_events
from tests.delivery import Database

CLOSED_PORT = 9  # nobody listens there


def on_postgresql(reason: str) -> pytest.MarkDecorator:
    """Skip a test on SQLite, for a reason."""
    return pytest.mark.skipif(is_sqlite, reason=f"needs TEST_DATABASE_URL: {reason}")


def on_sqlite(reason: str) -> pytest.MarkDecorator:
    """Skip a test on PostgreSQL, for a reason."""
    return pytest.mark.skipif(not is_sqlite, reason=f"needs SQLite: {reason}")


async def stored(database: Database, event_id: str = "evt_1") -> Any:
    """Return the row of an event."""
    query = sa.select(webhook_events).where(webhook_events.c.event_id == event_id)
    [row] = await database.rows(query)
    return row


async def make_due(database: Database) -> None:
    """End the lease of every pending event, or its wait for a retry."""
    is_pending = webhook_events.c.due_at.is_not(None)
    await database.execute(sa.update(webhook_events).where(is_pending).values(due_at=0))


@contextmanager
def locked(database: Database) -> Iterator[None]:
    """Lock the table of events, as if by another process: nothing can be committed meanwhile."""
    with database.engine.begin() as other:
        other.execute(sa.delete(webhook_events).where(sa.false()))
        if not is_sqlite:
            other.execute(sa.text("LOCK TABLE webhook_events IN ACCESS EXCLUSIVE MODE"))
        yield


def connect_to(url: sa.URL, patch: pytest.MonkeyPatch) -> None:
    """Make all later connections go to this database."""
    patch.setattr("app.inbox.engines.url", url)


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)
