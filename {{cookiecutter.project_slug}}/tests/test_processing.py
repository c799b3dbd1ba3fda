"""The life of an event: handled, retried, dead, replayed."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest
import sqlalchemy as sa

from app import __main__ as cli
from app import handlers
from app.commits import Calls
from app.config import settings
from app.database import is_sqlite, metadata
from app.events import Event
from app.inbox import Inbox
from app.processing import backoff, process, process_key
from tests.support import NAME, PATIENCE, Store, event, wait_for
from tests.test_inbox import make_due

pytestmark = pytest.mark.anyio

effects = sa.Table("effects", metadata, sa.Column("event", sa.Text), sa.Column("n", sa.Integer))
Use = Callable[[Callable[[Event], Awaitable[None]]], None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Put a handler in place of the real one."""
    return lambda handler: monkeypatch.setitem(handlers.load(), NAME, handler)


async def attempt(inbox: Inbox, store: Store) -> None:
    """Make the next attempt at the only event, without waiting for it to be due."""
    make_due(store)
    [claim] = await inbox.claim_due(1)
    await process(inbox, claim)


async def fail(event: Event) -> None:
    raise ValueError("jenny@example.com is \0 not \ud800 welcome")


@pytest.mark.parametrize("data", [{"data": {"object": {}}}, {"data": None}, {}])
async def test_an_unknown_type_is_logged_and_done_whatever_it_is_about(
    inbox: Inbox, store: Store, caplog: pytest.LogCaptureFixture, data: dict[str, object]
) -> None:
    caplog.set_level(logging.INFO)
    await inbox.add(replace(event(type="nobody.knows"), payload=json.dumps(data).encode()))

    await attempt(inbox, store)

    assert store.rows()[0].state == "done"
    assert "nobody.knows" in caplog.text


async def test_the_handler_gets_the_event_as_it_was_sent(
    inbox: Inbox, store: Store, use: Use
) -> None:
    seen: list[Event] = []

    async def handler(event: Event) -> None:
        seen.append(event)

    use(handler)
    sent = event()
    await inbox.add(sent)

    await attempt(inbox, store)

    assert seen == [sent]
    assert store.rows()[0].finished_at == pytest.approx(time.time(), abs=2)


async def test_a_failed_attempt_is_retried_later_and_keeps_its_error(
    inbox: Inbox, store: Store, use: Use, caplog: pytest.LogCaptureFixture
) -> None:
    use(fail)
    await inbox.add(event())
    begun = time.time()

    await attempt(inbox, store)

    [row] = store.rows()
    assert (row.state, row.attempts, row.finished_at) == ("pending", 1, None)
    base = settings.retry_base_seconds
    assert begun + base / 2 - 0.01 <= row.due_at <= time.time() + base + 0.01
    assert "ValueError" in row.error
    assert "test_processing.py" in row.error
    assert "ValueError" in caplog.text
    assert "jenny" not in caplog.text


def test_the_wait_doubles_up_to_the_cap_and_is_spread() -> None:
    base, cap = settings.retry_base_seconds, settings.retry_cap_seconds
    for number in (1, 2, 3, 4, 100, 10_000):
        longest = min(cap, base * 2 ** (min(number, 1000) - 1))
        waits = [backoff(number) for _ in range(200)]
        assert longest / 2 <= min(waits) < longest * 0.6
        assert longest * 0.9 < max(waits) <= longest


async def test_after_the_last_attempt_it_is_dead_logged_and_kept(
    inbox: Inbox, store: Store, use: Use, caplog: pytest.LogCaptureFixture
) -> None:
    use(fail)
    await inbox.add(event("evt_1"))

    for _ in range(settings.max_attempts):
        assert store.rows()[0].state == "pending"
        await attempt(inbox, store)

    [row] = store.rows()
    assert (row.state, row.due_at, row.attempts) == ("dead", None, settings.max_attempts)
    assert "ValueError" in row.error
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert ["evt_1" in record.getMessage() for record in errors] == [True]
    make_due(store)
    assert await inbox.claim_due(1) == []


async def test_an_event_that_kills_its_worker_does_not_loop_for_ever(
    inbox: Inbox, store: Store, use: Use
) -> None:
    calls = []

    async def count(event: Event) -> None:
        calls.append(event)

    use(count)
    await inbox.add(event())
    for _ in range(settings.max_attempts):  # claimed, and never heard of again
        make_due(store)
        assert len(await inbox.claim_due(1)) == 1

    await attempt(inbox, store)

    [row] = store.rows()
    assert (row.state, calls) == ("dead", [])
    assert "process died" in row.error


async def test_a_handler_that_hangs_is_ended_and_retried(
    inbox: Inbox, store: Store, use: Use
) -> None:
    async def hang(event: Event) -> None:
        await asyncio.Event().wait()

    use(hang)
    await inbox.add(event())
    begun = time.monotonic()

    await attempt(inbox, store)

    assert time.monotonic() - begun == pytest.approx(settings.handler_timeout_seconds, abs=0.9)
    assert "TimeoutError" in store.rows()[0].error


async def test_a_handler_that_exits_does_not_end_the_service(
    inbox: Inbox, store: Store, use: Use
) -> None:
    async def leave(event: Event) -> None:
        raise SystemExit("no")

    use(leave)
    await inbox.add(event())
    await attempt(inbox, store)
    assert "SystemExit" in store.rows()[0].error


async def test_a_handler_whose_own_task_was_cancelled_has_failed(
    inbox: Inbox, store: Store, use: Use
) -> None:
    async def depend(event: Event) -> None:
        cancelled = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        await cancelled

    use(depend)
    await inbox.add(event())

    for _ in range(settings.max_attempts):
        await attempt(inbox, store)

    [row] = store.rows()
    assert (row.state, row.attempts) == ("dead", settings.max_attempts)
    assert "CancelledError" in row.error


async def test_an_attempt_ended_by_a_shutdown_does_not_count(
    inbox: Inbox, store: Store, use: Use
) -> None:
    begun = asyncio.Event()

    async def hang(event: Event) -> None:
        begun.set()
        await asyncio.Event().wait()

    use(hang)
    await inbox.add(event())
    task = asyncio.create_task(attempt(inbox, store))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    [row] = store.rows()
    assert (row.state, row.attempt_limit) == ("pending", settings.max_attempts + 1)
    assert len(await inbox.claim_due(1)) == 1


async def test_what_is_claimed_as_its_worker_ends_is_given_back(
    inbox: Inbox, store: Store, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would wait until its lease runs out."""
    use(lambda event: pytest.fail("this is no time to begin"))
    await inbox.add(event())
    async with inbox.handover() as keys:
        [key] = keys
    loop, commit = asyncio.get_running_loop(), inbox._commits._commit
    task = asyncio.create_task(process_key(inbox, key))
    cancels = [task.cancel]

    def commit_meanwhile(batch: Calls) -> object:
        if cancels:
            loop.call_soon_threadsafe(cancels.pop())
        return commit(batch)

    monkeypatch.setattr(inbox._commits, "_commit", commit_meanwhile)
    await asyncio.gather(task, return_exceptions=True)

    [row] = store.rows()
    assert task.cancelled()
    assert (row.state, row.attempts) == ("pending", 1)
    assert row.attempt_limit == settings.max_attempts + 1
    assert len(await inbox.claim_due(1)) == 1


async def test_an_attempt_that_cancels_itself_does_not_loop_for_ever(
    inbox: Inbox, store: Store, use: Use
) -> None:
    async def give_up(event: Event) -> None:
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        await asyncio.sleep(0)

    use(give_up)
    await inbox.add(event())
    for _ in range(3 * settings.max_attempts):
        assert store.rows()[0].state == "pending"
        await asyncio.gather(asyncio.create_task(attempt(inbox, store)), return_exceptions=True)

    assert store.rows()[0].state == "dead"


async def test_an_effect_in_the_transaction_happens_exactly_once(
    inbox: Inbox, store: Store, use: Use
) -> None:
    tries = 0

    async def once(event: Event) -> None:
        nonlocal tries
        tries += 1
        async with event.transaction() as db:
            await db.execute(effects.insert().values(event=event.id, n=tries))
            if tries == 1:
                raise ConnectionError("before the commit")
        if tries == 2:
            raise ConnectionError("after the commit")

    use(once)
    await inbox.add(event("evt_1"))

    await attempt(inbox, store)
    assert (store.rows(effects), store.rows()[0].state) == ([], "pending")
    await attempt(inbox, store)

    assert store.rows(effects) == [("evt_1", 2)]
    assert store.rows()[0].state == "done"


async def test_a_second_transaction_of_a_handler_is_a_mistake_that_is_told(
    inbox: Inbox, store: Store, use: Use, caplog: pytest.LogCaptureFixture
) -> None:
    async def twice(event: Event) -> None:
        for n in range(2):
            async with event.transaction() as db:
                await db.execute(effects.insert().values(event=event.id, n=n))

    use(twice)
    await inbox.add(event())
    await attempt(inbox, store)

    assert [row.n for row in store.rows(effects)] == [0]
    assert "RuntimeError after it was done" in caplog.text


async def test_a_transaction_inside_a_transaction_is_told_at_once(
    inbox: Inbox, store: Store, use: Use
) -> None:
    async def nested(event: Event) -> None:
        async with event.transaction(), event.transaction():
            pass

    use(nested)
    await inbox.add(event("evt_1"))
    new, _ = await asyncio.gather(inbox.add(event("evt_2")), attempt(inbox, store))

    assert new  # it was not kept waiting
    assert "RuntimeError: a handler has one transaction" in store.row("evt_1").error


async def test_an_sql_error_that_a_handler_ignores_parts_no_effect_from_its_event(
    inbox: Inbox, store: Store, use: Use
) -> None:
    """After it SQLite goes on with the transaction, but PostgreSQL does not."""

    async def careless(event: Event) -> None:
        async with event.transaction() as db:
            await db.execute(effects.insert().values(event=event.id, n=0))
            with suppress(sa.exc.DBAPIError):
                await db.execute(sa.text("INSERT INTO no_such_table VALUES (1)"))

    use(careless)
    await inbox.add(event("evt_1"))
    await attempt(inbox, store)

    [row] = store.rows()
    if is_sqlite:
        assert (row.state, row.error, store.rows(effects)) == ("done", None, [("evt_1", 0)])
    else:
        assert (row.state, store.rows(effects)) == ("pending", [])
        assert "InFailedSqlTransaction" in row.error


async def test_a_lost_lease_rolls_the_effect_back(inbox: Inbox, store: Store, use: Use) -> None:
    async def overtaken(event: Event) -> None:
        make_due(store)
        await inbox.claim_due(1)
        async with event.transaction() as db:
            await db.execute(effects.insert().values(event=event.id, n=0))

    use(overtaken)
    await inbox.add(event())
    await attempt(inbox, store)

    [row] = store.rows()
    assert (store.rows(effects), row.state, row.attempts, row.error) == ([], "pending", 2, None)


async def test_a_late_success_does_not_undo_a_later_attempt(
    inbox: Inbox, store: Store, use: Use, caplog: pytest.LogCaptureFixture
) -> None:
    async def overtaken(event: Event) -> None:
        make_due(store)
        await inbox.claim_due(1)

    use(overtaken)
    await inbox.add(event())
    await attempt(inbox, store)

    assert (store.rows()[0].state, store.rows()[0].attempts) == ("pending", 2)
    assert "lease" in caplog.text


async def test_a_late_failure_does_not_end_a_later_attempt(
    inbox: Inbox, store: Store, use: Use, caplog: pytest.LogCaptureFixture
) -> None:
    async def overtaken(event: Event) -> None:
        make_due(store)
        await inbox.claim_due(1)
        raise ValueError

    use(overtaken)
    await inbox.add(event())
    await attempt(inbox, store)

    [row] = store.rows()
    assert (row.state, row.attempts, row.error) == ("pending", 2, None)
    assert "lease" in caplog.text
    assert "ValueError" not in caplog.text


async def test_when_the_outcome_cannot_be_recorded_the_lease_runs_out(
    inbox: Inbox, store: Store, use: Use
) -> None:
    async def cut_off(event: Event) -> None:
        store.change("ALTER TABLE inbox RENAME TO inbox_lost")

    use(cut_off)
    await inbox.add(event())
    await attempt(inbox, store)
    store.change("ALTER TABLE inbox_lost RENAME TO inbox")
    use(lambda event: asyncio.sleep(0))

    await attempt(inbox, store)

    assert (store.rows()[0].state, store.rows()[0].attempts) == ("done", 2)


async def test_while_no_event_can_be_claimed_a_worker_keeps_its_message(
    inbox: Inbox, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """It would go through all messages in a second, and have claimed none."""
    await inbox.add(event())
    async with inbox.handover() as keys:
        [key] = keys
    store.change("ALTER TABLE inbox RENAME TO inbox_lost")
    attempting = asyncio.create_task(process_key(inbox, key))
    try:
        await asyncio.to_thread(wait_for, lambda: "did not commit" in caplog.text, "it to try")
    finally:
        store.change("ALTER TABLE inbox_lost RENAME TO inbox")
    async with asyncio.timeout(PATIENCE):
        await attempting
    assert (store.rows()[0].state, store.rows()[0].attempts) == ("done", 1)


async def test_while_no_event_can_be_claimed_a_worker_gives_up_in_the_end(
    inbox: Inbox, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker may end the connection of a worker that holds a message for half an hour."""
    hurried = settings.model_copy(update={"sweep_seconds": 0.001})
    monkeypatch.setattr("app.processing.settings", hurried)
    await inbox.add(event())
    async with inbox.handover() as keys:
        [key] = keys
    store.change("ALTER TABLE inbox RENAME TO inbox_lost")
    try:
        async with asyncio.timeout(PATIENCE):
            await process_key(inbox, key)
    finally:
        store.change("ALTER TABLE inbox_lost RENAME TO inbox")
    assert store.rows()[0].attempts == 0


async def test_a_spent_message_handles_nothing(inbox: Inbox, store: Store, use: Use) -> None:
    calls = []

    async def count(event: Event) -> None:
        calls.append(event.id)

    use(count)
    await inbox.add(event("evt_1"))
    async with inbox.handover() as keys:
        [key] = keys

    await asyncio.gather(*(process_key(inbox, key) for _ in range(5)))

    assert calls == ["evt_1"]
    assert store.rows()[0].attempts == 1


async def test_a_replayed_event_has_all_its_attempts_again(
    inbox: Inbox, store: Store, use: Use
) -> None:
    use(fail)
    await inbox.add(event("evt_1"))
    for _ in range(settings.max_attempts):
        await attempt(inbox, store)
    assert store.rows()[0].state == "dead"

    await asyncio.to_thread(cli.replay, [], dead=True)

    for _ in range(settings.max_attempts - 1):
        await attempt(inbox, store)
        assert store.rows()[0].state == "pending"
    await attempt(inbox, store)
    assert store.rows()[0].state == "dead"


def test_outside_a_handler_an_event_has_no_transaction() -> None:
    with pytest.raises(RuntimeError, match="being handled"):
        event().transaction()
