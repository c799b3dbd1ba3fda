"""The inbox: an event is in it once and for good, and one attempt at a time has it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from app.database import is_sqlite
from app.events import Delivery
from app.inbox.group_commit import GroupCommit, StoreUnavailable
from app.inbox.inbox import (
    DURABLE,
    OPERATIONS,
    Added,
    DueCall,
    Inbox,
    LeaseLost,
    Reference,
    _add,
    _claim_due,
    lease_seconds,
)
from app.inbox.table import webhook_events
from app.inbox.write_lock import WriteLock
from app.inbox.writers import create_writer
from app.settings import settings
from app.webhooks.endpoint import by_name
from tests.delivery import Database
from tests.engine.service import delivery, endpoint
from tests.engine.store import locked, make_due, on_postgresql, on_sqlite, stored

pytestmark = pytest.mark.anyio

EVENTS = sa.select(webhook_events).order_by(webhook_events.c.id)


@pytest.fixture
async def other(database: Database) -> AsyncIterator[Inbox]:
    """The inbox as another process sees it."""
    other = Inbox()
    await other.open()
    yield other
    await other.close()


async def fill(inbox: Inbox, count: int) -> None:
    """Add the events `evt_0`, `evt_1` and so on, one after another."""
    for number in range(count):
        await inbox.add("test", delivery(f"evt_{number}"))


# Storing


async def test_an_event_is_stored_once(inbox: Inbox, database: Database) -> None:
    assert await inbox.add("test", delivery("evt_1")) is Added.NEW
    assert await inbox.add("test", delivery("evt_1")) is Added.DUPLICATE
    assert len(await database.rows(EVENTS)) == 1


async def test_the_same_id_at_two_endpoints_means_two_events(
    inbox: Inbox, database: Database
) -> None:
    added = [await inbox.add(name, delivery("evt_1")) for name in ("one", "other")]

    assert added == [Added.NEW, Added.NEW]
    assert len(await database.rows(EVENTS)) == 2


async def test_of_equal_events_at_once_the_first_is_new(inbox: Inbox) -> None:
    added = await asyncio.gather(*(inbox.add("test", delivery("evt_1")) for _ in range(3)))

    assert added == [Added.NEW, Added.DUPLICATE, Added.DUPLICATE]


async def test_events_that_two_processes_receive_at_once_are_stored_once(
    inbox: Inbox, other: Inbox, database: Database
) -> None:
    deliveries = [delivery(f"evt_{number}") for number in range(40)]

    added = await asyncio.gather(
        *(inbox.add("test", each) for each in deliveries),
        *(other.add("test", each) for each in reversed(deliveries)),
    )

    assert added.count(Added.NEW) == len(await database.rows(EVENTS)) == 40


@pytest.mark.parametrize("together", [False, True])
async def test_a_duplicate_that_differs_is_told_apart(inbox: Inbox, together: bool) -> None:
    """Its id may be that of an order, say, and not of an event."""
    deliveries = [
        delivery("evt_1"),
        delivery("evt_1", event_type="test.happened.again"),
        delivery("evt_1", data={"changed": True}),
    ]
    if together:
        added = await asyncio.gather(*(inbox.add("test", each) for each in deliveries))
    else:
        added = [await inbox.add("test", each) for each in deliveries]

    assert added == [Added.NEW, Added.OTHER_TYPE, Added.OTHER_BODY]


async def test_a_conflict_with_another_event_does_not_make_a_duplicate(
    inbox: Inbox, database: Database
) -> None:
    await database.execute("CREATE UNIQUE INDEX of_your_own ON webhook_events (event_type)")
    try:
        assert await inbox.add("test", delivery("evt_1")) is Added.NEW
        with pytest.raises(StoreUnavailable):
            await inbox.add("test", delivery("evt_2"))
    finally:
        await database.execute("DROP INDEX of_your_own")


async def test_an_event_that_cannot_be_stored_fails_alone(inbox: Inbox, database: Database) -> None:
    bad = Delivery("evt_bad", None, b"", None)  # type: ignore[arg-type]
    good = [delivery(f"evt_{number}") for number in range(4)]

    results = await asyncio.gather(
        *(inbox.add("test", each) for each in [*good[:2], bad, *good[2:]]), return_exceptions=True
    )

    assert results[:2] == results[3:] == [Added.NEW, Added.NEW]
    assert isinstance(results[2], StoreUnavailable)
    assert len(await database.rows(EVENTS)) == 4


async def test_nobody_waits_for_a_commit_longer_than_the_deadline(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "ack_deadline_seconds", 0.1)
    with locked(database):
        begun = time.monotonic()
        adding = [inbox.add("test", delivery(f"evt_{number}")) for number in range(10)]
        results = await asyncio.gather(*adding, return_exceptions=True)

        assert {type(result) for result in results} == {StoreUnavailable}
        assert time.monotonic() - begun < 0.7


async def test_who_gives_up_before_the_commit_begins_leaves_nothing(
    inbox: Inbox, database: Database
) -> None:
    with locked(database):
        being_committed = asyncio.create_task(inbox.add("test", delivery("evt_1")))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(inbox.add("test", delivery("evt_2")))
        await asyncio.sleep(0.05)
        waiting.cancel()

    assert await being_committed is Added.NEW
    assert await inbox.add("test", delivery("evt_3")) is Added.NEW
    assert [event.event_id for event in await database.rows(EVENTS)] == ["evt_1", "evt_3"]


async def test_what_is_being_committed_when_the_inbox_closes_is_stored(database: Database) -> None:
    inbox = Inbox()
    adding = asyncio.create_task(inbox.add("test", delivery("evt_1")))
    await asyncio.sleep(0)

    await inbox.close()

    assert await adding is Added.NEW
    assert len(await database.rows(EVENTS)) == 1


async def test_a_closed_inbox_says_so_at_once(database: Database) -> None:
    inbox = Inbox()
    await inbox.close()

    async with asyncio.timeout(1):
        with pytest.raises(StoreUnavailable):
            await inbox.claim_due(1)


async def test_only_an_acknowledgement_waits_for_the_disk(inbox: Inbox) -> None:
    levels: list[Any] = []

    def record(connection: sa.Connection, _: list[Any]) -> list[Any]:
        setting = "PRAGMA synchronous" if is_sqlite else "SHOW synchronous_commit"
        levels.append(connection.exec_driver_sql(setting).scalar_one())
        return [None]

    commits = GroupCommit([*OPERATIONS, record], DURABLE, WriteLock())
    await asyncio.gather(
        commits.call(record, None), commits.call(_add, ("test", delivery("evt_1")))
    )
    claim = DueCall(1, inbox._claimant)
    await asyncio.gather(commits.call(record, None), commits.call(_claim_due, claim))
    await commits.close()

    assert levels == ([FULL, NORMAL] if is_sqlite else ["on", "off"])


FULL, NORMAL = 2, 1  # https://www.sqlite.org/pragma.html#pragma_synchronous


@on_sqlite("its connections keep what was set")
async def test_sqlite_writes_ahead(database: Database) -> None:
    [(mode,)] = await database.rows(sa.text("PRAGMA journal_mode"))

    assert mode == "wal"


@on_postgresql("SQLite has one writer at a time")
async def test_an_event_that_another_process_is_adding_is_a_duplicate(
    inbox: Inbox, database: Database
) -> None:
    event = delivery()
    row = {
        "endpoint": "test",
        "event_id": event.id,
        "event_type": event.type,
        "payload": event.payload,
    }
    with database.engine.connect() as other:
        other.execute(webhook_events.insert().values(row))
        adding = asyncio.create_task(inbox.add("test", event))
        await asyncio.sleep(0.1)
        other.commit()

    assert await adding is Added.DUPLICATE


@on_postgresql("SQLite has one writer at a time")
async def test_an_event_that_a_hanging_process_is_adding_delays_no_other_for_long(
    inbox: Inbox, database: Database
) -> None:
    event = delivery()
    row = {
        "endpoint": "test",
        "event_id": event.id,
        "event_type": event.type,
        "payload": event.payload,
    }
    with database.engine.connect() as hanging:
        hanging.execute(webhook_events.insert().values(row))
        adding = asyncio.create_task(inbox.add("test", event))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(1.7):
            assert await inbox.add("test", delivery("evt_2")) is Added.NEW
        hanging.rollback()

    with pytest.raises(StoreUnavailable):
        await adding


@on_postgresql("SQLite locks no rows")
async def test_a_row_that_somebody_has_locked_delays_no_other_event(
    inbox: Inbox, database: Database
) -> None:
    await inbox.add("test", delivery("evt_1"))
    [claim] = await inbox.claim_due(1)
    with database.engine.begin() as somebody:
        somebody.execute(EVENTS.with_for_update())
        begun = time.monotonic()
        added, ended = await asyncio.gather(
            inbox.add("test", delivery("evt_2")), inbox.complete(claim), return_exceptions=True
        )
        assert time.monotonic() - begun < 0.5

    assert added is Added.NEW
    assert isinstance(ended, LeaseLost)  # not recorded: it is attempted again


@on_postgresql("SQLite has no connections that a server could close")
async def test_a_connection_that_was_closed_while_idle_costs_no_event(
    inbox: Inbox, database: Database
) -> None:
    await inbox.add("test", delivery("evt_1"))
    await database.execute(
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    assert await inbox.add("test", delivery("evt_2")) is Added.NEW


@on_postgresql("SQLite's transactions take turns")
async def test_the_isolation_level_is_not_what_the_database_has_by_default(
    inbox: Inbox, database: Database
) -> None:
    """In a stricter one, PostgreSQL fails the second of two transactions with the same event."""
    name, setting = database.engine.url.database, "default_transaction_isolation"
    await database.execute(f"ALTER DATABASE {name} SET {setting} = 'repeatable read'")
    try:
        writer = create_writer()
        level = await writer.write(isolation_level, durable=True)
        await writer.close()
    finally:
        await database.execute(f"ALTER DATABASE {name} RESET {setting}")

    assert level == "read committed"


def isolation_level(connection: sa.Connection) -> object:
    return connection.exec_driver_sql("SHOW transaction_isolation").scalar()


# Claims and leases


async def test_events_that_have_been_due_longest_are_claimed_first_and_once(inbox: Inbox) -> None:
    await fill(inbox, 5)

    first, second, third = [await inbox.claim_due(3) for _ in range(3)]

    assert {claim.event_id for claim in first} == {"evt_0", "evt_1", "evt_2"}
    assert {claim.event_id for claim in second} == {"evt_3", "evt_4"}
    assert third == []


async def test_two_processes_never_claim_the_same_event(inbox: Inbox, other: Inbox) -> None:
    await fill(inbox, 30)

    taken = await asyncio.gather(*(each.claim_due(4) for _ in range(8) for each in (inbox, other)))

    event_ids = [claim.event_id for claims in taken for claim in claims]
    assert len(event_ids) == len(set(event_ids)) == 30


async def test_a_claim_is_a_lease_that_expires(inbox: Inbox, database: Database) -> None:
    await inbox.add("test", delivery())
    [first] = await inbox.claim_due(1)
    expires_in = (await stored(database)).due_at - time.time()
    assert settings.handler_timeout_seconds + settings.ack_deadline_seconds < expires_in
    assert lease_seconds() - 1 < expires_in < lease_seconds() * 1.5 + 1
    assert await inbox.claim_due(1) == []

    await make_due(database)

    [second] = await inbox.claim_due(1)
    assert (first.attempts, second.attempts) == (1, 2)


async def test_leases_that_begin_together_do_not_expire_together(
    inbox: Inbox, database: Database
) -> None:
    """Or an event that kills its process would take the same others with it every time."""
    await fill(inbox, 20)
    await inbox.claim_due(20)

    leases = [event.due_at for event in await database.rows(EVENTS)]

    assert max(leases) - min(leases) > lease_seconds() / 8


async def test_an_attempt_that_was_overtaken_can_record_nothing(
    inbox: Inbox, database: Database
) -> None:
    await inbox.add("test", delivery())
    [slow] = await inbox.claim_due(1)
    await make_due(database)
    [fast] = await inbox.claim_due(1)

    for ending in (
        inbox.complete(slow),
        inbox.retry(slow, 0, "too late"),
        inbox.bury(slow, "too late"),
        inbox.release(slow),
    ):
        with pytest.raises(LeaseLost):
            await ending
    with pytest.raises(LeaseLost):
        async with inbox.transaction(slow) as connection:
            await connection.execute(sa.delete(webhook_events))
    event = await stored(database)
    assert (event.state, event.attempts, event.failures, event.error) == ("pending", 2, 2, None)

    await inbox.complete(fast)
    assert (await stored(database)).state == "done"


async def test_an_attempt_ends_once(inbox: Inbox, database: Database) -> None:
    await inbox.add("test", delivery())
    [claim] = await inbox.claim_due(1)
    async with inbox.transaction(claim):
        pass

    for ending in (inbox.complete(claim), inbox.retry(claim, 0, ""), inbox.bury(claim, "")):
        with pytest.raises(LeaseLost):
            await ending
    assert (await stored(database)).state == "done"


async def test_an_attempt_that_ends_is_not_overtaken_in_the_same_commit(
    inbox: Inbox, database: Database
) -> None:
    await inbox.add("test", delivery())
    [late] = await inbox.claim_due(1)
    await make_due(database)

    claims, _ = await asyncio.gather(inbox.claim_due(1), inbox.complete(late))

    assert claims == []
    assert (await stored(database)).state == "done"


async def test_of_attempts_that_end_together_only_the_late_one_is_told(
    inbox: Inbox, database: Database
) -> None:
    await fill(inbox, 3)
    claims = sorted(await inbox.claim_due(3), key=lambda claim: claim.event_id)
    late = webhook_events.c.event_id == "evt_1"
    await database.execute(sa.update(webhook_events).where(late).values(due_at=0))
    await inbox.claim_due(1)

    ended = await asyncio.gather(*(inbox.complete(each) for each in claims), return_exceptions=True)

    assert [type(each) for each in ended] == [type(None), LeaseLost, type(None)]
    states = [event.state for event in await database.rows(EVENTS)]
    assert states == ["done", "pending", "done"]


async def test_a_released_attempt_does_not_count_and_the_event_is_due_at_once(
    inbox: Inbox, database: Database
) -> None:
    await inbox.add("test", delivery())
    for _ in range(settings.max_attempts + 1):
        [claim] = await inbox.claim_due(1)
        await inbox.release(claim)

    [claim] = await inbox.claim_due(1)
    assert (claim.failures, claim.attempts) == (1, settings.max_attempts + 2)


# Messages in a queue


async def dispatch(inbox: Inbox) -> list[Reference]:
    """Dispatch until there is nothing more to dispatch."""
    references: list[Reference] = []
    while some := await inbox.dispatch_due():
        references += some
    return references


async def test_a_message_is_good_for_one_attempt(inbox: Inbox, database: Database) -> None:
    await inbox.add("test", delivery())
    [reference] = await inbox.dispatch_due()

    claims = [await inbox.claim(reference) for _ in range(3)]

    assert [claim is not None for claim in claims] == [True, False, False]
    assert (await stored(database)).attempts == 1


async def test_a_message_whose_event_is_gone_claims_nothing(inbox: Inbox) -> None:
    assert await inbox.claim(Reference(id=1_000_000, attempts=0)) is None


async def test_a_dispatched_event_is_dispatched_again_if_no_worker_claims_it(
    inbox: Inbox, database: Database
) -> None:
    await inbox.add("test", delivery())
    [reference] = await inbox.dispatch_due()
    assert await inbox.dispatch_due() == []
    due_in = (await stored(database)).due_at - time.time()
    assert settings.requeue_after_seconds - 1 < due_in

    await make_due(database)

    assert await inbox.dispatch_due() == [reference]


async def test_a_backlog_waits_in_the_inbox_and_not_in_the_queue(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.inbox.inbox.QUEUE_WINDOW", 20)
    await fill(inbox, 50)

    first = await dispatch(inbox)
    assert len(first) == 20
    for reference in first[:3]:
        assert await inbox.claim(reference)
    second = await dispatch(inbox)
    assert len(second) == 3
    for reference in first[3:] + second:
        assert await inbox.claim(reference)
    third = await dispatch(inbox)

    assert len(third) == 20
    assert len({*first, *second, *third}) == 43


async def test_messages_that_were_lost_make_room_when_they_are_due_again(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.inbox.inbox.QUEUE_WINDOW", 5)
    await fill(inbox, 12)
    assert len(await dispatch(inbox)) == 5

    is_queued = webhook_events.c.queued.is_(sa.true())
    await database.execute(sa.update(webhook_events).where(is_queued).values(due_at=0))

    assert len(await dispatch(inbox)) == 5


async def test_an_event_whose_message_could_not_be_published_is_due_at_once(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.inbox.inbox.QUEUE_WINDOW", 5)
    await fill(inbox, 5)

    references = await inbox.dispatch_due()
    await inbox.undispatch(references)

    assert {*await inbox.dispatch_due()} == {*references}


async def test_a_late_report_that_a_message_could_not_be_published_changes_nothing(
    inbox: Inbox, database: Database
) -> None:
    await inbox.add("test", delivery())
    references = await inbox.dispatch_due()
    claim = await inbox.claim(references[0])
    before = await stored(database)

    await inbox.undispatch(references)

    assert claim
    assert await stored(database) == before


# The work of a statement does not grow with the table

WHOLE_TABLE = r"SCAN webhook_events(?! USING)|SCAN old(?! USING)|Seq Scan on webhook_events"


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Every statement that is executed, in order."""
    executed: list[str] = []

    def record(_: Any, __: Any, statement: str, *rest: Any) -> None:
        executed.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", record)
    yield executed
    sa.event.remove(sa.Engine, "before_cursor_execute", record)


@pytest.fixture
def plans(database: Database) -> Iterator[list[str]]:
    """How the database carries out each statement on the events."""
    plans: list[str] = []
    explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"

    def record(_: Any, cursor: Any, statement: str, values: Any, __: Any, many: bool) -> None:
        if "webhook_events" in statement and not many:
            cursor.execute(f"{explain} {statement}", values)
            plans.append("\n".join(str(line[-1]) for line in cursor.fetchall()))

    sa.event.listen(sa.Engine, "before_cursor_execute", record)
    yield plans
    sa.event.remove(sa.Engine, "before_cursor_execute", record)


async def test_no_statement_reads_the_whole_table(
    inbox: Inbox, database: Database, plans: list[str]
) -> None:
    waiting = {"endpoint": "test", "event_type": "a.type", "payload": b"{}", "due_at": 1e12}
    rows = [waiting | {"event_id": f"waiting_{number}"} for number in range(3000)]
    with database.engine.begin() as connection:
        connection.execute(sa.insert(webhook_events), rows)
        connection.exec_driver_sql("ANALYZE")

    await fill(inbox, 3)
    await inbox.add("test", delivery("evt_0"))
    [first] = await inbox.claim_due(1)
    await inbox.retry(first, 0, "an error")
    [reference, *others] = await inbox.dispatch_due()
    await inbox.undispatch(others)
    second = await inbox.claim(reference)
    assert second
    async with inbox.transaction(second):
        pass

    assert len(plans) > 8
    assert [plan for plan in plans if re.search(WHOLE_TABLE, plan)] == []


async def test_no_statement_about_slots_reads_the_whole_table(
    database: Database, plans: list[str]
) -> None:
    waiting = {"endpoint": "test", "event_type": "a.type", "payload": b"{}", "due_at": 1e12}
    rows = [waiting | {"event_id": f"waiting_{number}"} for number in range(3000)]
    with database.engine.begin() as connection:
        connection.execute(sa.insert(webhook_events), rows)
        connection.exec_driver_sql("ANALYZE")

    inbox = Inbox(by_name([replace(endpoint(), concurrency=2)]))
    await fill(inbox, 4)
    assert len(await inbox.claim_due(1)) == len(await inbox.dispatch_due()) == 1
    assert await inbox.claim_next("test") is None
    await inbox.close()

    assert len(plans) > 8
    assert [plan for plan in plans if re.search(WHOLE_TABLE, plan)] == []


async def test_what_no_worker_takes_is_dispatched_again(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "requeue_after_seconds", 0.05)
    await inbox.add("test", delivery())
    dispatched = await inbox.dispatch_due()

    await asyncio.sleep(0.1)

    assert len(dispatched) == 1
    assert await inbox.dispatch_due() == dispatched
