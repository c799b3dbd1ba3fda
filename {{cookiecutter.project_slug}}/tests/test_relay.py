"""The relay: whatever happens to the broker, what is due is handed over in the end."""

import asyncio
import time

import pytest

from app import queue
from app.config import settings
from app.inbox import Inbox
from app.relay import relay
from tests.support import PATIENCE, Store, event, wait_for

pytestmark = pytest.mark.anyio


async def test_a_broker_that_fails_is_tried_again(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopping = asyncio.Event()
    tries: list[float] = []

    async def enqueue(inbox: Inbox) -> int:
        tries.append(time.monotonic())
        async with inbox.handover() as keys:
            if len(tries) <= 2:
                raise ConnectionError("broker://user:password@host")
        stopping.set()
        return len(keys)

    monkeypatch.setattr(queue, "enqueue", enqueue)
    await inbox.add(event())

    async with asyncio.timeout(10):
        await relay(inbox, stopping)

    assert len(tries) == 3
    assert tries[2] - tries[0] > 2 * settings.sweep_seconds - 0.05
    assert "ConnectionError" in caplog.text
    assert "password" not in caplog.text


async def test_it_stops_at_once_even_while_its_database_is_away(
    inbox: Inbox, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rarely = settings.model_copy(update={"sweep_seconds": 3600})
    monkeypatch.setattr("app.relay.settings", rarely)
    stopping = asyncio.Event()
    store.change("ALTER TABLE inbox RENAME TO inbox_lost")
    try:
        relaying = asyncio.create_task(relay(inbox, stopping))
        await asyncio.to_thread(
            wait_for, lambda: "nothing handed over" in caplog.text, "the relay to try"
        )
        stopping.set()
        async with asyncio.timeout(PATIENCE):
            await relaying
    finally:
        store.change("ALTER TABLE inbox_lost RENAME TO inbox")


async def test_a_new_event_wakes_it_and_the_clock_does_otherwise(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = asyncio.Event()
    looks: list[float] = []

    async def enqueue(inbox: Inbox) -> int:
        looks.append(time.monotonic())
        return 0

    monkeypatch.setattr(queue, "enqueue", enqueue)
    relaying = asyncio.create_task(relay(inbox, stopping))
    await asyncio.sleep(settings.sweep_seconds * 3.5)
    assert 3 <= len(looks) <= 5

    before = len(looks)
    await inbox.add(event())
    await asyncio.sleep(settings.sweep_seconds / 4)
    assert len(looks) > before

    stopping.set()
    await relaying
