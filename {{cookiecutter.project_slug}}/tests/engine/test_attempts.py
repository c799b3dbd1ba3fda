"""An attempt: however a handler ends, the event is done, due again, or dead."""

import asyncio
import logging
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from app.cli import cli
from app.events import Delivery, Event, Permanent, RetryAfter
from app.inbox.inbox import Inbox
from app.processing.attempt import attempt, attempt_reference
from app.settings import settings
from app.webhooks.endpoint import Endpoint, Handler, by_name
from tests.delivery import Database
from tests.engine.conftest import Try
from tests.engine.service import SharedSecret, delivery, effects, endpoint, handle
from tests.engine.store import make_due, stored, until

pytestmark = pytest.mark.anyio


async def fail(event: Event) -> None:
    raise ValueError("jenny@example.com is \0 not \ud800 welcome")


async def never_end(event: Event) -> None:
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
async def one_event(inbox: Inbox) -> None:
    """The event that is attempted."""
    await inbox.add("test", delivery("evt_1", name="Zoë"))


async def test_the_handler_is_given_the_event_as_it_was_sent(try_with: Try) -> None:
    events = []

    async def handler(event: Event) -> None:
        events.append(event)

    row = await try_with(handler)

    sent = delivery("evt_1", name="Zoë")
    [event] = events
    assert (event.endpoint, event.id, event.type) == ("test", "evt_1", "test.happened")
    assert (event.payload, event.data, event.headers) == (sent.payload, sent.data, {})
    assert (row.state, row.due_at, row.error) == ("done", None, None)
    assert row.finished_at == pytest.approx(time.time(), abs=2)


async def test_the_handler_is_given_the_headers_that_the_verifier_kept(
    inbox: Inbox, database: Database
) -> None:
    events = []

    async def handler(event: Event) -> None:
        events.append(event)

    await inbox.claim_due(1)
    kept = {"X-Shop": "zoë's \x00 shop", "X-Topic": "orders/paid"}
    await inbox.add("test", replace(delivery("evt_2"), headers=kept))
    [claim] = await inbox.claim_due(1)
    await attempt(inbox, by_name([endpoint(handler)]), claim)

    assert [event.headers for event in events] == [kept]


class InAForm(SharedSecret):
    """A verifier whose sender puts the JSON behind a word."""

    def parse(self, payload: bytes) -> Any:
        return super().parse(payload.removeprefix(b"data="))


@pytest.mark.parametrize(
    ("payload", "data"),
    [(b'data={"a": 1}', {"a": 1}), (b'{"a": 1}', {"a": 1}), (b"data=", None), (b"\xff", None)],
)
async def test_the_handler_is_given_the_body_as_the_verifier_parses_it(
    inbox: Inbox, payload: bytes, data: object
) -> None:
    events = []

    async def handler(event: Event) -> None:
        events.append(event)

    await inbox.claim_due(1)
    await inbox.add("test", Delivery("evt_2", "test.happened", payload, data))
    [claim] = await inbox.claim_due(1)
    form = Endpoint("test", verify=InAForm(), handler=handler)
    await attempt(inbox, by_name([form]), claim)

    assert [(event.payload, event.data) for event in events] == [(payload, data)]


async def test_a_failed_attempt_keeps_its_traceback_and_the_event_is_due_again(
    try_with: Try, caplog: pytest.LogCaptureFixture
) -> None:
    row = await try_with(fail)

    assert (row.state, row.finished_at) == ("pending", None)
    base = settings.retry_base_seconds
    assert base / 2 - 1 < row.due_at - time.time() <= base
    assert "test_attempts.py" in row.error
    assert "ValueError" in row.error
    assert "test test.happened evt_1 (attempt 1): ValueError, retry in" in caplog.text
    assert "jenny" not in caplog.text


async def test_after_the_last_attempt_the_event_is_dead_and_the_log_says_what_to_do(
    try_with: Try, inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(settings.max_attempts - 1):
        assert (await try_with(fail)).state == "pending"

    row = await try_with(fail)

    assert (row.state, row.due_at, row.attempts) == ("dead", None, settings.max_attempts)
    assert "ValueError" in row.error
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert line.getMessage().endswith("dead: see python -m app show evt_1")
    assert await inbox.claim_due(1) == []


async def test_an_event_that_kills_its_process_is_dead_in_the_end(
    try_with: Try, inbox: Inbox, database: Database
) -> None:
    for _ in range(settings.max_attempts):
        assert len(await inbox.claim_due(1)) == 1
        await make_due(database)  # its process died, and its lease expires

    row = await try_with(must_not_be_called)

    assert row.state == "dead"
    assert "its process died" in row.error


async def test_a_limit_that_was_lowered_hides_no_failure(
    try_with: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        await try_with(fail)
    monkeypatch.setattr(settings, "max_attempts", 1)

    row = await try_with(fail)

    assert (row.state, row.attempts) == ("dead", 3)
    assert "process died" not in row.error


async def must_not_be_called(event: Event) -> None:
    pytest.fail("the handler was called")


async def test_a_replayed_event_starts_over_with_attempts_and_backoff(
    try_with: Try, database: Database
) -> None:
    for _ in range(settings.max_attempts):
        await try_with(fail)

    await asyncio.to_thread(CliRunner().invoke, cli, ["replay", "evt_1"])

    for number in range(1, settings.max_attempts):
        row = await try_with(fail)
        longest = settings.retry_base_seconds * 2 ** (number - 1)
        assert longest / 2 - 1 < row.due_at - time.time() <= longest
    assert (await try_with(fail)).state == "dead"


async def test_attempts_that_a_shutdown_cut_short_neither_count_nor_lengthen_the_wait(
    try_with: Try, inbox: Inbox
) -> None:
    for _ in range(settings.max_attempts + 2):
        [claim] = await inbox.claim_due(1)
        task = asyncio.create_task(attempt(inbox, by_name([endpoint(never_end)]), claim))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    row = await try_with(fail)

    assert (row.state, row.failures) == ("pending", 1)
    assert row.due_at - time.time() <= settings.retry_base_seconds


async def test_a_handler_that_takes_too_long_is_cancelled_and_has_failed(
    try_with: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "handler_timeout_seconds", 0.05)

    row = await try_with(never_end)

    assert row.state == "pending"
    assert "TimeoutError: the handler took longer than HANDLER_TIMEOUT_SECONDS" in row.error


async def test_a_handler_that_ignores_its_cancellation_is_left_behind(
    try_with: Try, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settings, "handler_timeout_seconds", 0.05)
    monkeypatch.setattr("app.processing.attempt.CANCEL_SECONDS", 0.05)
    may_end = asyncio.Event()

    async def ignore(event: Event) -> None:
        while not may_end.is_set():
            with suppress(asyncio.CancelledError):
                await may_end.wait()

    try:
        async with asyncio.timeout(2):
            row = await try_with(ignore)
    finally:
        may_end.set()

    assert row.state == "pending"
    assert "HANDLER_TIMEOUT_SECONDS" in row.error
    assert "ignores its cancellation" in caplog.text


async def test_a_handler_that_is_done_before_its_cancellation_takes_effect_is_done(
    try_with: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "handler_timeout_seconds", 0.05)

    async def finish_first(event: Event) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    assert (await try_with(finish_first)).state == "done"


async def exit_process(event: Event) -> None:
    sys.exit("no")


async def raise_something_else(event: Event) -> None:
    raise SomethingElse


async def cancel_itself(event: Event) -> None:
    task = asyncio.current_task()
    assert task
    task.cancel()
    await asyncio.sleep(0)


async def await_something_cancelled(event: Event) -> None:
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    await cancelled


async def raise_a_group(event: Event) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fail(event))


class SomethingElse(BaseException):
    """Not an Exception."""


@pytest.mark.parametrize(
    "handler",
    [
        exit_process,
        raise_something_else,
        cancel_itself,
        await_something_cancelled,
        raise_a_group,
    ],
)
async def test_whatever_a_handler_raises_is_a_failed_attempt(
    try_with: Try, handler: Handler
) -> None:
    for _ in range(settings.max_attempts - 1):
        row = await try_with(handler)
        assert (row.state, row.error is None) == ("pending", False)

    assert (await try_with(handler)).state == "dead"


# What a handler can say


async def give_up(event: Event) -> None:
    raise Permanent("there is no such order")


async def give_up_in_its_transaction(event: Event) -> None:
    async with event.transaction() as db:
        await db.execute(effects.insert().values(event_id=event.id))
        raise Permanent("there is no such order")


@pytest.mark.parametrize("handler", [give_up, give_up_in_its_transaction])
async def test_an_event_that_its_handler_gives_up_is_dead_at_once_with_the_reason(
    try_with: Try, database: Database, caplog: pytest.LogCaptureFixture, handler: Handler
) -> None:
    row = await try_with(handler)

    assert (row.state, row.due_at, row.attempts) == ("dead", None, 1)
    assert "Permanent: there is no such order" in row.error
    assert "Permanent, dead: see python -m app show evt_1" in caplog.text
    assert "no such order" not in caplog.text
    assert await database.rows(sa.select(effects)) == []


async def test_an_event_that_was_given_up_can_be_replayed(try_with: Try) -> None:
    await try_with(give_up)

    await asyncio.to_thread(CliRunner().invoke, cli, ["replay", "evt_1"])

    assert (await try_with(handle)).state == "done"


def retry_after(seconds: Any, *, in_transaction: bool = False) -> Handler:
    """Return a handler that wants to be called again after so many seconds."""

    async def postpone(event: Event) -> None:
        if in_transaction:
            async with event.transaction() as db:
                await db.execute(effects.insert().values(event_id=event.id))
                raise RetryAfter(seconds, "the quota is used up")
        raise RetryAfter(seconds, "the quota is used up")

    return postpone


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("seconds", [0, 0.5, 400, 10**400])
async def test_a_handler_can_say_when_its_event_is_due_again(
    try_with: Try, database: Database, seconds: float, in_transaction: bool
) -> None:
    row = await try_with(retry_after(seconds, in_transaction=in_transaction))

    wait = min(seconds, settings.retry_cap_seconds)
    assert row.due_at - time.time() == pytest.approx(wait, abs=0.4)
    assert (row.state, row.failures) == ("pending", 1)
    assert "the quota is used up" in row.error
    assert await database.rows(sa.select(effects)) == []


async def test_waits_that_a_handler_asks_for_count_as_attempts(try_with: Try) -> None:
    for _ in range(settings.max_attempts - 1):
        assert (await try_with(retry_after(1))).state == "pending"

    assert (await try_with(retry_after(1))).state == "dead"


@pytest.mark.parametrize(
    ("seconds", "problem"),
    [
        (-1, "ValueError: RetryAfter takes seconds from 0 up, not -1"),
        (float("nan"), "ValueError: RetryAfter takes seconds from 0 up, not nan"),
        (float("inf"), "ValueError: RetryAfter takes seconds from 0 up, not inf"),
        ("30", "TypeError: RetryAfter takes a number of seconds, not str"),
        (None, "TypeError: RetryAfter takes a number of seconds, not NoneType"),
        (True, "TypeError: RetryAfter takes a number of seconds, not bool"),
    ],
)
async def test_a_wait_that_makes_no_sense_is_a_failure_that_says_so(
    try_with: Try, seconds: Any, problem: str
) -> None:
    row = await try_with(retry_after(seconds))

    assert problem in row.error
    assert settings.retry_base_seconds / 2 - 1 < row.due_at - time.time()


async def test_what_a_handler_says_after_its_commit_comes_too_late(
    try_with: Try, caplog: pytest.LogCaptureFixture
) -> None:
    async def too_late(event: Event) -> None:
        await handle(event)
        raise Permanent("the mail bounced")

    assert (await try_with(too_late)).state == "done"
    assert "Permanent after it was done" in caplog.text


async def test_an_event_whose_endpoint_was_removed_says_so(
    inbox: Inbox, database: Database
) -> None:
    [claim] = await inbox.claim_due(1)

    await attempt(inbox, {}, claim)

    assert "app/endpoints.py has no endpoint 'test': add it again" in (await stored(database)).error


async def test_a_body_that_is_not_json_reaches_the_handler_that_its_verifier_accepted_it_for(
    inbox: Inbox, database: Database
) -> None:
    form = Delivery("evt_form", "command", b"command=%2Fdeploy&text=now", {"command": "/deploy"})
    await inbox.add("test", form)
    payloads = []

    async def handler(event: Event) -> None:
        payloads.append(event.payload)

    for claim in await inbox.claim_due(2):
        await attempt(inbox, by_name([endpoint(handler)]), claim)

    assert (await stored(database, "evt_form")).state == "done"
    assert form.payload in payloads


async def test_a_late_success_does_not_end_a_later_attempt(
    try_with: Try, inbox: Inbox, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def overtaken(event: Event) -> None:
        await make_due(database)
        await inbox.claim_due(1)

    row = await try_with(overtaken)

    assert (row.state, row.attempts) == ("pending", 2)
    assert "its lease is lost" in caplog.text


async def test_a_late_failure_does_not_end_a_later_attempt(
    try_with: Try, inbox: Inbox, database: Database
) -> None:
    async def overtaken(event: Event) -> None:
        await make_due(database)
        await inbox.claim_due(1)
        raise ValueError

    row = await try_with(overtaken)

    assert (row.state, row.attempts, row.error) == ("pending", 2, None)


async def test_an_outcome_that_cannot_be_recorded_is_found_out_by_another_attempt(
    try_with: Try, inbox: Inbox, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def cut_off(event: Event) -> None:
        await database.execute("ALTER TABLE webhook_events RENAME TO lost")

    [claim] = await inbox.claim_due(1)
    await attempt(inbox, by_name([endpoint(cut_off)]), claim)
    await database.execute("ALTER TABLE lost RENAME TO webhook_events")

    assert "not recorded, it is repeated when its lease expires" in caplog.text
    row = await try_with(handle)
    assert (row.state, row.attempts) == ("done", 2)


# What a worker does about a message


async def test_copies_of_a_message_make_one_attempt(inbox: Inbox, database: Database) -> None:
    calls = []

    async def count(event: Event) -> None:
        calls.append(event.id)

    [reference] = await inbox.dispatch_due()
    endpoints = by_name([endpoint(count)])
    await asyncio.gather(*(attempt_reference(inbox, endpoints, reference) for _ in range(5)))

    assert calls == ["evt_1"]
    assert (await stored(database)).attempts == 1


async def test_while_the_database_is_away_a_worker_waits_with_its_message(
    inbox: Inbox, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """It would otherwise go through all messages in a second, and claim nothing."""
    [reference] = await inbox.dispatch_due()
    await database.execute("ALTER TABLE webhook_events RENAME TO lost")
    task = asyncio.create_task(attempt_reference(inbox, by_name([endpoint()]), reference))
    try:
        await until(lambda: "did not commit" in caplog.text)
    finally:
        await database.execute("ALTER TABLE lost RENAME TO webhook_events")

    async with asyncio.timeout(5):
        await task
    row = await stored(database)
    assert (row.state, row.attempts) == ("done", 1)


async def test_a_worker_does_not_wait_with_a_message_for_ever(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker ends the connection of a worker that holds a message for too long."""
    monkeypatch.setattr("app.processing.attempt.MAX_CLAIM_TRIES", 3)
    [reference] = await inbox.dispatch_due()
    await database.execute("ALTER TABLE webhook_events RENAME TO lost")
    try:
        async with asyncio.timeout(5):
            await attempt_reference(inbox, by_name([endpoint()]), reference)
    finally:
        await database.execute("ALTER TABLE lost RENAME TO webhook_events")

    assert (await stored(database)).attempts == 0


async def test_an_event_that_is_claimed_as_the_worker_ends_is_given_back(
    inbox: Inbox, database: Database
) -> None:
    """Or it would wait until its lease expires."""
    [reference] = await inbox.dispatch_due()
    endpoints = by_name([endpoint(must_not_be_called)])

    task = asyncio.create_task(attempt_reference(inbox, endpoints, reference))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    row = await stored(database)
    assert (row.state, row.failures) == ("pending", 0)
    assert row.attempts == 0 or row.due_at <= time.time()
