"""The dispatcher: whatever happens to the broker, due events are passed on in the end."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from app.inbox.inbox import Inbox
from app.processing.dispatcher import dispatching
from app.settings import settings
from tests.delivery import Database, running
from tests.engine.service import URL, application, body, delivery, signed
from tests.engine.store import until

pytestmark = pytest.mark.anyio

Use = Callable[[Callable[[Inbox], Awaitable[int]]], None]


@pytest.fixture
def dispatch_with(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Put a function in the place of the queue, and so of the broker behind it."""

    def dispatch_with(dispatch: Callable[[Inbox], Awaitable[int]]) -> None:
        class Queue:
            def __init__(self, inbox: Inbox, endpoints: object) -> None:
                self.inbox = inbox

            async def dispatch(self) -> int:
                return await dispatch(self.inbox)

            async def close(self) -> None:
                pass

        monkeypatch.setattr("app.processing.dispatcher.Queue", Queue)

    return dispatch_with


async def test_a_broker_that_is_away_is_tried_again_and_its_password_not_logged(
    inbox: Inbox, dispatch_with: Use, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[float] = []

    async def fail_twice(inbox: Inbox) -> int:
        tries.append(time.monotonic())
        if len(tries) <= 2:
            raise ConnectionError("cannot connect to broker://user:the-password@host")
        return 0

    dispatch_with(fail_twice)
    async with dispatching(inbox, {}):
        await until(lambda: len(tries) > 2)

    assert tries[2] - tries[0] > 2 * settings.poll_interval_seconds - 0.01
    assert "nothing dispatched: ConnectionError" in caplog.text
    assert "the-password" not in caplog.text


async def test_while_the_broker_hangs_events_are_acknowledged_and_a_shutdown_ends(
    database: Database, dispatch_with: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.processing.dispatcher.STOP_SECONDS", 0.1)
    hanging = asyncio.Event()

    async def hang(inbox: Inbox) -> int:
        hanging.set()
        await asyncio.Event().wait()
        return 0

    dispatch_with(hang)
    async with asyncio.timeout(2), running(application()) as service:
        await hanging.wait()
        answer = await service.client.post(URL, content=body(), headers=signed(body()))

    assert answer.status_code == 200


async def test_a_new_event_is_dispatched_at_once(
    inbox: Inbox, dispatch_with: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "poll_interval_seconds", 3600)
    dispatched: list[object] = []

    async def dispatch(inbox: Inbox) -> int:
        references = await inbox.dispatch_due()
        dispatched.extend(references)
        return len(references)

    dispatch_with(dispatch)
    async with dispatching(inbox, {}):
        await asyncio.sleep(0.05)
        await inbox.add("test", delivery())
        await until(lambda: len(dispatched) == 1, seconds=1)


async def test_the_inbox_is_looked_through_again_and_again(
    inbox: Inbox, dispatch_with: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "poll_interval_seconds", 0.02)
    looks: list[float] = []

    async def look(inbox: Inbox) -> int:
        looks.append(time.monotonic())
        return 0

    dispatch_with(look)
    async with dispatching(inbox, {}):
        await until(lambda: len(looks) > 3, seconds=1)

    assert looks[3] - looks[0] > 2.5 * settings.poll_interval_seconds


async def test_as_long_as_there_is_something_to_dispatch_it_does_not_wait(
    inbox: Inbox, dispatch_with: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "poll_interval_seconds", 3600)
    left = [3, 2, 1, 0]

    async def dispatch(inbox: Inbox) -> int:
        return left.pop(0)

    dispatch_with(dispatch)
    async with dispatching(inbox, {}):
        await until(lambda: not left, seconds=1)


async def test_it_stops_at_once_even_while_the_database_is_away(
    inbox: Inbox,
    database: Database,
    dispatch_with: Use,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(settings, "poll_interval_seconds", 3600)
    monkeypatch.setattr("app.processing.dispatcher.STOP_SECONDS", 3600)

    async def dispatch(inbox: Inbox) -> int:
        return len(await inbox.dispatch_due())

    dispatch_with(dispatch)
    await database.execute("ALTER TABLE webhook_events RENAME TO lost")
    try:
        async with asyncio.timeout(5), dispatching(inbox, {}):
            await until(lambda: "nothing dispatched" in caplog.text)
    finally:
        await database.execute("ALTER TABLE lost RENAME TO webhook_events")
