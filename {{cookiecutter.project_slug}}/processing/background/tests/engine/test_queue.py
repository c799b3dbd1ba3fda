"""Handling in the web process: a few events at a time, and never idle while there are more."""

import asyncio
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

from app.events import Event
from app.inbox.inbox import Inbox
from app.inbox.table import webhook_events
from app.processing.dispatcher import dispatching
from app.processing.queue import Queue
from app.settings import settings
from app.webhooks.endpoint import by_name
from tests.delivery import Database
from tests.engine.service import delivery, endpoint
from tests.engine.store import stored, until

pytestmark = pytest.mark.anyio

EVENTS = sa.select(webhook_events).order_by(webhook_events.c.id)


@pytest.fixture(autouse=True)
def real_queue(short_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service handle its events by itself, and wake up only when told to."""
    monkeypatch.setattr("app.processing.dispatcher.Queue", Queue)
    monkeypatch.setattr(settings, "poll_interval_seconds", 3600)


async def fill(inbox: Inbox, count: int) -> None:
    """Add the events `evt_0`, `evt_1` and so on."""
    for number in range(count):
        await inbox.add("test", delivery(f"evt_{number}"))


async def states(database: Database) -> set[str]:
    return {event.state for event in await database.rows(EVENTS)}


async def test_a_flood_is_handled_a_few_events_at_a_time(inbox: Inbox, database: Database) -> None:
    running = most = ended = 0

    async def count(event: Event) -> None:
        nonlocal running, most, ended
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        ended += 1

    await fill(inbox, 5 * settings.concurrency)
    async with dispatching(inbox, by_name([endpoint(count)])):
        await until(lambda: ended == 5 * settings.concurrency)

    assert most == settings.concurrency
    assert await states(database) == {"done"}


async def test_an_endpoint_with_a_limit_is_handled_so_many_events_at_a_time(
    database: Database,
) -> None:
    running = most = ended = 0

    async def count(event: Event) -> None:
        nonlocal running, most, ended
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        ended += 1

    endpoints = by_name([replace(endpoint(count), concurrency=2)])
    inbox = Inbox(endpoints)
    await fill(inbox, 12)
    async with dispatching(inbox, endpoints):
        await until(lambda: ended == 12)
    await inbox.close()

    assert most == 2
    assert await states(database) == {"done"}


async def test_a_place_whose_handler_failed_is_taken_again_at_once(inbox: Inbox) -> None:
    begun: set[str] = set()

    async def fail(event: Event) -> None:
        begun.add(event.id)
        raise ValueError

    await fill(inbox, 5 * settings.concurrency)
    async with dispatching(inbox, by_name([endpoint(fail)])):
        await until(lambda: len(begun) == 5 * settings.concurrency)


async def test_a_new_event_is_handled_at_once(inbox: Inbox) -> None:
    handled = asyncio.Event()

    async def handler(event: Event) -> None:
        handled.set()

    async with dispatching(inbox, by_name([endpoint(handler)])):
        await inbox.add("test", delivery())
        async with asyncio.timeout(1):
            await handled.wait()


async def test_an_event_that_is_due_again_is_handled(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "poll_interval_seconds", 0.02)
    monkeypatch.setattr(settings, "retry_base_seconds", 0.05)
    tries = []

    async def succeed_at_last(event: Event) -> None:
        tries.append(event.id)
        if len(tries) < settings.max_attempts:
            raise ValueError

    await inbox.add("test", delivery())
    async with dispatching(inbox, by_name([endpoint(succeed_at_last)])):
        await until(lambda: len(tries) == settings.max_attempts)

    assert (await stored(database)).state == "done"


async def test_handlers_that_ignore_their_cancellation_keep_no_other_event_waiting(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "handler_timeout_seconds", 0.05)
    monkeypatch.setattr("app.processing.attempt.CANCEL_SECONDS", 0.05)
    may_end = asyncio.Event()
    handled = []

    async def ignore_or_handle(event: Event) -> None:
        if int(event.id.removeprefix("evt_")) >= settings.concurrency:
            handled.append(event.id)
            return
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue

    await fill(inbox, settings.concurrency + 1)
    async with dispatching(inbox, by_name([endpoint(ignore_or_handle)])):
        try:
            await until(lambda: len(handled) == 1)
        finally:
            may_end.set()


async def test_a_shutdown_waits_for_handlers(inbox: Inbox, database: Database) -> None:
    begun = asyncio.Event()

    async def take_a_moment(event: Event) -> None:
        begun.set()
        await asyncio.sleep(0.1)

    await fill(inbox, 1)
    async with dispatching(inbox, by_name([endpoint(take_a_moment)])):
        await begun.wait()

    assert await states(database) == {"done"}


async def test_a_shutdown_does_not_wait_for_ever_and_gives_back_what_it_cuts_short(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "grace_period_seconds", 0.05)
    begun = []

    async def take_long(event: Event) -> None:
        begun.append(event.id)
        await asyncio.sleep(3)

    await fill(inbox, 2)
    async with asyncio.timeout(1), dispatching(inbox, by_name([endpoint(take_long)])):
        await until(lambda: len(begun) == 2)

    events = await database.rows(EVENTS)
    assert [(event.state, event.failures) for event in events] == [("pending", 0)] * 2
    assert all(event.due_at <= time.time() for event in events)


async def test_while_it_shuts_down_it_begins_nothing_new(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "concurrency", 1)
    begun = []

    async def take_a_moment(event: Event) -> None:
        begun.append(event.id)
        await asyncio.sleep(0.05)

    await fill(inbox, 3)
    async with dispatching(inbox, by_name([endpoint(take_a_moment)])):
        await until(lambda: len(begun) == 1)

    assert len(begun) == 1
    assert [event.attempts for event in await database.rows(EVENTS)] == [1, 0, 0]
