"""Handling in the web process: a few events at a time, and never idle while there are more."""

import asyncio
import gc
import time

import pytest

from app import handlers, queue
from app.config import settings
from app.events import Event
from app.inbox import Inbox
from app.relay import relay
from tests.support import NAME, Store, event

pytestmark = pytest.mark.anyio


async def test_a_slot_whose_handler_failed_is_taken_again_at_once(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: set[str] = set()
    all_begun = asyncio.Event()

    async def fail(event: Event) -> None:
        begun.add(event.id)
        if len(begun) == 40:
            all_begun.set()
        raise ValueError

    monkeypatch.setitem(handlers.load(), NAME, fail)
    for number in range(40):
        await inbox.add(event(f"evt_{number}"))
    since, stopping = time.monotonic(), asyncio.Event()
    relaying = asyncio.create_task(relay(inbox, stopping))

    await all_begun.wait()

    assert time.monotonic() - since < 0.7  # with a sweep for each four of them it takes a second
    stopping.set()
    inbox.arrived.set()
    await relaying
    await queue.drain()


async def test_a_failure_that_cannot_be_recorded_is_not_logged_in_full(
    inbox: Inbox, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(event: Event) -> None:
        store.change("ALTER TABLE inbox RENAME TO inbox_lost")
        raise ValueError("jenny@example.com is not welcome")

    monkeypatch.setitem(handlers.load(), NAME, fail)
    await inbox.add(event())
    try:
        await queue.enqueue(inbox)
        await queue.drain()
        gc.collect()
        await asyncio.sleep(0)
    finally:
        store.change("ALTER TABLE inbox_lost RENAME TO inbox")

    assert "the database did not commit" in caplog.text
    assert "jenny" not in caplog.text


async def test_a_shutdown_gives_back_what_was_claimed_meanwhile(
    inbox: Inbox, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = asyncio.Event()

    async def succeed(event: Event) -> None:
        await inbox._lock.acquire()  # from now on nothing is written
        locked.set()

    monkeypatch.setitem(handlers.load(), NAME, succeed)
    for number in range(2):
        await inbox.add(event(f"evt_{number}"))
    one_slot = settings.model_copy(update={"concurrency": 1})
    monkeypatch.setattr("app.queue.settings", one_slot)
    await queue.enqueue(inbox)
    await locked.wait()
    await asyncio.sleep(0.01)

    [slot] = queue._running
    slot.cancel()
    await asyncio.sleep(0.01)
    inbox._lock.release()
    await asyncio.gather(slot, return_exceptions=True)

    rows = store.rows()
    assert [row.state for row in rows] == ["pending", "pending"]
    assert all(row.due_at <= time.time() for row in rows)
    assert [row.attempt_limit - row.attempts for row in rows] == [3, 3]
