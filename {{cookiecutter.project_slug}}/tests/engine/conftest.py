"""Settings that keep waits short, and a running service."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from app.inbox.inbox import Inbox
from app.processing.attempt import attempt
from app.settings import settings
from app.webhooks.endpoint import Handler, by_name
from tests.delivery import Database, Service, running
from tests.engine.service import URL, application, body, effects, endpoint, signed
from tests.engine.store import make_due, stored

SETTINGS: dict[str, object] = {
    "environment": "development",
    "max_body_bytes": 500_000,
    "body_timeout_seconds": 2,
    "ack_deadline_seconds": 2,
    "concurrency": 4,
    "handler_timeout_seconds": 2,
    "max_attempts": 3,
    "retry_base_seconds": 10,
    "retry_cap_seconds": 1000,
    "poll_interval_seconds": 0.05,
    "requeue_after_seconds": 10,
    "grace_period_seconds": 2,
    "prune_after_days": None,
}

Post = Callable[..., Awaitable[httpx2.Response]]
Try = Callable[[Handler], Awaitable[Any]]


@pytest.fixture(autouse=True)
def short_waits(no_queue: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set every setting, whatever `.env` says."""
    for name, value in SETTINGS.items():
        monkeypatch.setattr(settings, name, value)


@pytest.fixture
def database(database: Database) -> Database:
    """The database, emptied, with the table of these tests."""
    with database.engine.begin() as connection:
        effects.create(connection, checkfirst=True)
        connection.execute(sa.delete(effects))
    return database


@pytest.fixture
async def inbox(database: Database) -> AsyncIterator[Inbox]:
    """An inbox whose events only the test attempts."""
    inbox = Inbox()
    await inbox.open()
    yield inbox
    await inbox.close()


@pytest.fixture
async def service(database: Database) -> AsyncIterator[Service]:
    """The service of the tests, running, but attempting nothing by itself."""
    async with running(application()) as service:
        yield service


@pytest.fixture
def post(service: Service) -> Post:
    """Post an event, signed, to the service: `await post(id="evt_1")`."""

    async def post(**fields: object) -> httpx2.Response:
        payload = body(**fields)
        return await service.client.post(URL, content=payload, headers=signed(payload))

    return post


@pytest.fixture
def try_with(inbox: Inbox, database: Database) -> Try:
    """Attempt the only event with a handler, due or not, and return its row."""

    async def try_with(handler: Handler) -> Any:
        await make_due(database)
        [claim] = await inbox.claim_due(1)
        await attempt(inbox, by_name([endpoint(handler)]), claim)
        return await stored(database)

    return try_with
