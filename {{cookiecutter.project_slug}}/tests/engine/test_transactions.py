"""A handler's transaction: exactly once, and at nobody else's expense."""

import asyncio
import gc
import random
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.database import is_sqlite, url
from app.events import Event
from app.inbox.inbox import Added, Claim, Inbox
from app.processing.attempt import attempt
from app.settings import settings
from app.webhooks.endpoint import Handler, by_name
from tests.delivery import Database, Service
from tests.engine.conftest import Post, Try
from tests.engine.service import delivery, effects, endpoint, handle
from tests.engine.store import (
    CLOSED_PORT,
    locked,
    make_due,
    on_postgresql,
    on_sqlite,
    stored,
    until,
)

pytestmark = pytest.mark.anyio

EFFECTS = sa.select(effects)


async def attempt_due(inbox: Inbox, handler: Handler, limit: int = 1) -> None:
    """Attempt what is due, all at the same time."""
    claims = await inbox.claim_due(limit)
    endpoints = by_name([endpoint(handler)])
    await asyncio.gather(*(attempt(inbox, endpoints, claim) for claim in claims))


# Exactly once


@pytest.mark.parametrize("before_the_commit", [True, False])
async def test_an_effect_happens_once_however_often_the_handler_fails(
    inbox: Inbox, try_with: Try, database: Database, before_the_commit: bool
) -> None:
    await inbox.add("test", delivery())

    async def fail(event: Event) -> None:
        async with event.transaction() as db:
            await db.execute(effects.insert().values(event_id=event.id))
            if before_the_commit:
                raise ConnectionError
        raise ConnectionError

    row = await try_with(fail)
    if before_the_commit:
        assert (row.state, await database.rows(EFFECTS)) == ("pending", [])
        row = await try_with(handle)

    assert (row.state, await database.rows(EFFECTS)) == ("done", [("evt_1",)])


async def test_an_overtaken_attempt_leaves_no_effect(
    inbox: Inbox, try_with: Try, database: Database
) -> None:
    await inbox.add("test", delivery())

    async def overtaken(event: Event) -> None:
        await make_due(database)
        await inbox.claim_due(1)
        await handle(event)

    row = await try_with(overtaken)

    assert (row.state, row.attempts, row.error) == ("pending", 2, None)
    assert await database.rows(EFFECTS) == []


async def test_a_second_transaction_is_refused(
    inbox: Inbox, try_with: Try, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await inbox.add("test", delivery())

    async def twice(event: Event) -> None:
        await handle(event)
        await handle(event)

    row = await try_with(twice)

    assert (row.state, await database.rows(EFFECTS)) == ("done", [("evt_1",)])
    assert "RuntimeError after it was done: see python -m app show evt_1" in caplog.text
    assert "a handler may open one transaction" in row.error


async def test_a_transaction_in_a_transaction_is_refused_at_once(
    inbox: Inbox, try_with: Try
) -> None:
    await inbox.add("test", delivery())

    async def nested(event: Event) -> None:
        async with event.transaction(), event.transaction():
            pass

    async with asyncio.timeout(1):
        row = await try_with(nested)

    assert "RuntimeError: a handler may open one transaction" in row.error


async def test_a_statement_that_failed_and_was_ignored_parts_no_effect_from_its_event(
    inbox: Inbox, try_with: Try, database: Database
) -> None:
    """After it, SQLite goes on with the transaction, and PostgreSQL does not."""
    await inbox.add("test", delivery())

    async def careless(event: Event) -> None:
        async with event.transaction() as db:
            await db.execute(effects.insert().values(event_id=event.id))
            with suppress(sa.exc.DBAPIError):
                await db.execute(sa.text("INSERT INTO no_such_table VALUES (1)"))

    row = await try_with(careless)

    if is_sqlite:
        assert (row.state, await database.rows(EFFECTS)) == ("done", [("evt_1",)])
    else:
        assert (row.state, await database.rows(EFFECTS)) == ("pending", [])
        assert "a statement failed, so PostgreSQL rolls the transaction back" in row.error


async def test_a_savepoint_lets_a_statement_fail_on_both_databases(
    inbox: Inbox, try_with: Try, database: Database
) -> None:
    await inbox.add("test", delivery())

    async def careful(event: Event) -> None:
        async with event.transaction() as db:
            await db.execute(effects.insert().values(event_id=event.id))
            with suppress(sa.exc.DBAPIError):
                async with db.begin_nested():
                    await db.execute(sa.text("INSERT INTO no_such_table VALUES (1)"))

    row = await try_with(careful)

    assert (row.state, await database.rows(EFFECTS)) == ("done", [("evt_1",)])


async def test_a_handler_that_rolls_back_itself_has_failed(
    inbox: Inbox, try_with: Try, database: Database
) -> None:
    await inbox.add("test", delivery())

    async def roll_back(event: Event) -> None:
        async with event.transaction() as db:
            await db.execute(effects.insert().values(event_id=event.id))
            await db.rollback()

    row = await try_with(roll_back)

    assert (row.state, await database.rows(EFFECTS)) == ("pending", [])
    assert "leave that to `async with`" in row.error


async def test_a_handler_that_commits_itself_is_done_once_and_told(
    inbox: Inbox, try_with: Try, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await inbox.add("test", delivery())

    async def commit(event: Event) -> None:
        async with event.transaction() as db:
            await db.execute(effects.insert().values(event_id=event.id))
            await db.commit()

    row = await try_with(commit)

    assert (row.state, await database.rows(EFFECTS)) == ("done", [("evt_1",)])
    assert "RuntimeError after it was done" in caplog.text
    assert "leave that to `async with`" in row.error
    assert "lease" not in caplog.text


async def test_a_connection_that_is_used_after_its_transaction_harms_no_other_event(
    inbox: Inbox, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def use_afterwards(event: Event) -> None:
        async with event.transaction() as db:
            await db.execute(effects.insert().values(event_id=event.id))
        await db.execute(effects.insert().values(event_id="too late"))

    for number in range(3):
        await inbox.add("test", delivery(f"evt_{number}"))
    await attempt_due(inbox, use_afterwards)
    async with asyncio.timeout(2):
        await attempt_due(inbox, handle, limit=2)

    assert "after it was done" in caplog.text
    effects_of = {row.event_id for row in await database.rows(EFFECTS)}
    assert effects_of == {"evt_0", "evt_1", "evt_2"}


# Nobody else waits


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """A connection that only the collector would close stays open, and fails the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@on_sqlite("PostgreSQL has no lock that all writers need")
@pytest.mark.usefixtures("no_garbage_collection")
async def test_handlers_cancelled_at_any_moment_hold_no_lock(inbox: Inbox) -> None:
    """Cancelled in a statement, a connection could keep SQLite's write lock."""
    for number in range(4):
        await inbox.add("test", delivery(f"evt_{number}"))
    claims = await inbox.claim_due(4)
    for _ in range(100):
        tasks = [asyncio.create_task(use_transaction(inbox, claim)) for claim in claims]
        for task in tasks:
            await asyncio.sleep(random.uniform(0, 0.001))  # noqa: S311
            task.cancel()
        async with asyncio.timeout(1):
            assert await inbox.add("test", delivery("evt_0")) is Added.DUPLICATE
            await asyncio.wait(tasks)
            assert await inbox.add("test", delivery("evt_0")) is Added.DUPLICATE


@on_sqlite("PostgreSQL has no lock that all writers need")
@pytest.mark.usefixtures("no_garbage_collection")
async def test_a_handler_cancelled_while_it_waits_for_the_lock_takes_none(
    inbox: Inbox, database: Database
) -> None:
    await inbox.add("test", delivery("evt_1"))
    [claim] = await inbox.claim_due(1)
    with locked(database):
        task = asyncio.create_task(use_transaction(inbox, claim))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.sleep(0.05)

    async with asyncio.timeout(1):
        assert await inbox.add("test", delivery("evt_2")) is Added.NEW
        await inbox.release(claim)
        await asyncio.wait([task])


async def use_transaction(inbox: Inbox, claim: Claim) -> None:
    async with inbox.transaction(claim) as db:
        for _ in range(3):
            await db.execute(effects.insert().values(event_id=claim.event_id))
        raise RollBack


class RollBack(Exception):
    """Ends a transaction without a commit."""


@on_postgresql("on SQLite, writers take turns")
async def test_a_duplicate_is_answered_while_its_first_delivery_is_in_a_transaction(
    service: Service, post: Post
) -> None:
    opened, may_end = asyncio.Event(), asyncio.Event()

    async def hold(event: Event) -> None:
        async with event.transaction():
            opened.set()
            await may_end.wait()

    await post(id="evt_1")
    handling = asyncio.create_task(attempt_due(service.inbox, hold))
    await opened.wait()

    begun = time.monotonic()
    answers = await asyncio.gather(*(post(id=event_id) for event_id in ("evt_1", "evt_1", "evt_2")))

    assert {answer.status_code for answer in answers} == {200}
    assert time.monotonic() - begun < 0.5
    may_end.set()
    await handling


@on_sqlite("on PostgreSQL, nobody waits for a transaction")
async def test_a_transaction_that_is_open_for_too_long_is_ended(
    inbox: Inbox, try_with: Try, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.inbox.inbox.SQLITE_TRANSACTION_SECONDS", 0.1)
    await inbox.add("test", delivery("evt_1"))

    async def call_somebody(event: Event) -> None:
        async with event.transaction() as db:
            await db.execute(effects.insert().values(event_id=event.id))
            await asyncio.sleep(5)

    row = await try_with(call_somebody)

    assert (row.state, await database.rows(EFFECTS)) == ("pending", [])
    assert "TransactionTooLong: the transaction was open for 0.1 s" in row.error
    assert "make calls to other services before you open it" in row.error


@on_sqlite("on PostgreSQL, nobody waits for a transaction")
async def test_a_statement_that_takes_too_long_is_ended(
    inbox: Inbox, try_with: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.inbox.inbox.SQLITE_TRANSACTION_SECONDS", 0.1)
    await inbox.add("test", delivery())

    async def count(event: Event) -> None:
        async with event.transaction() as db:
            await db.execute(sa.text(COUNT_FOR_SECONDS))

    async with asyncio.timeout(2):
        row = await try_with(count)

    assert row.state == "pending"
    assert "TransactionTooLong" in row.error


COUNT_FOR_SECONDS = """
WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 5000000)
SELECT count(*) FROM n
"""


@on_sqlite("on PostgreSQL, nobody waits for a transaction")
async def test_an_acknowledgement_waits_for_one_transaction_at_most(inbox: Inbox) -> None:
    ended: list[str] = []

    async def hold(event: Event) -> None:
        async with event.transaction():
            await asyncio.sleep(0.03)
        ended.append(event.id)

    for number in range(6):
        await inbox.add("test", delivery(f"evt_{number}"))
    handling = asyncio.create_task(attempt_due(inbox, hold, limit=6))
    await until(lambda: len(ended) == 1)

    before = len(ended)
    await inbox.add("test", delivery("evt_new"))

    assert len(ended) - before <= 2  # the one in progress, and one that was next in line
    await handling
    assert len(ended) == 6


async def test_a_transaction_that_cannot_be_opened_does_not_count_as_a_failure(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.inbox.inbox.create_async_engine", connects_to_nothing)
    inbox = Inbox()
    await inbox.add("test", delivery())

    for _ in range(settings.max_attempts + 1):
        await make_due(database)
        await attempt_due(inbox, handle)

    row = await stored(database)
    assert (row.state, row.failures) == ("pending", 0)
    assert row.due_at > time.time() + settings.retry_base_seconds - 1  # not at once
    assert "the database is away" in caplog.text
    await inbox.close()


def connects_to_nothing() -> AsyncEngine:
    """Return an engine whose database is away."""
    if is_sqlite:
        return create_async_engine("sqlite+aiosqlite:////no/such/folder/inbox.db")
    away = url.set(drivername="postgresql+psycopg", port=CLOSED_PORT)
    return create_async_engine(away)


@on_postgresql("SQLite has no connections that a server could close")
async def test_a_connection_that_was_closed_while_idle_costs_no_attempt(
    inbox: Inbox, try_with: Try, database: Database
) -> None:
    await inbox.add("test", delivery("evt_0"))
    await attempt_due(inbox, handle)
    await database.execute(
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await inbox.add("test", delivery("evt_1"))

    for _ in range(2):
        await make_due(database)
        await attempt_due(inbox, handle)
        assert (await stored(database)).failures <= 1

    assert await database.rows(EFFECTS) == [("evt_0",), ("evt_1",)]


async def test_a_statement_that_fails_is_a_failure_and_its_reason_is_kept(
    inbox: Inbox, try_with: Try
) -> None:
    await inbox.add("test", delivery())

    async def wrong(event: Event) -> None:
        async with event.transaction() as db:
            await db.execute(sa.text("INSERT INTO no_such_table VALUES (1)"))

    assert "no_such_table" in (await try_with(wrong)).error
