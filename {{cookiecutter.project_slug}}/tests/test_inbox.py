"""The inbox: what is in it once is in it for good, and only one attempt at a time has it."""

import asyncio
import re
import time
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from app.commits import StoreUnavailable
from app.config import settings
from app.database import is_sqlite
from app.events import Event, LeaseLost
from app.inbox import LEASE_SECONDS, Inbox, State
from app.models import Key
from app.models import inbox as table
from tests.support import NAME, Store, event, on_postgresql, wait_for

pytestmark = pytest.mark.anyio


def make_due(store: Store) -> None:
    """Let the lease, or the wait for a retry, of every pending event run out."""
    store.change("UPDATE inbox SET due_at = 0 WHERE due_at IS NOT NULL")


def updates_of(inbox: Inbox) -> list[tuple[str, Any]]:
    """Return a list that will have each update of the inbox and its parameters."""
    updates: list[tuple[str, Any]] = []

    def watch(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "UPDATE" in statement:
            updates.append((statement, parameters))

    sa.event.listen(inbox._commits._engine, "before_cursor_execute", watch)
    return updates


def plan(store: Store, statement: str, parameters: Any) -> str:
    """Return how the database would carry out a statement."""
    explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
    with store.engine.begin() as connection:
        lines = connection.exec_driver_sql(f"{explain} {statement}", parameters)
        return "\n".join(str(line[-1]) for line in lines)


async def test_an_event_is_added_once(inbox: Inbox, store: Store) -> None:
    assert await inbox.add(event("evt_1"))
    assert not await inbox.add(event("evt_1"))
    assert [row.event_id for row in store.rows()] == ["evt_1"]


async def test_events_of_two_inboxes_at_once_are_added_once(inbox: Inbox, store: Store) -> None:
    other = Inbox()
    ids = [f"evt_{number}" for number in range(40)]
    await asyncio.gather(
        *(inbox.add(event(id)) for id in ids), *(other.add(event(id)) for id in reversed(ids))
    )
    await other.close()
    assert sorted(row.event_id for row in store.rows()) == sorted(ids)


async def test_of_equal_events_at_once_the_first_is_new(inbox: Inbox) -> None:
    equal = (inbox.add(event("evt_1")) for _ in range(3))
    assert await asyncio.gather(*equal) == [True, False, False]


async def test_what_conflicts_with_another_event_is_no_duplicate(
    inbox: Inbox, store: Store
) -> None:
    store.change("CREATE UNIQUE INDEX of_your_own ON inbox (type)")
    try:
        assert await inbox.add(event("evt_1"))
        with pytest.raises(StoreUnavailable):
            await inbox.add(event("evt_2"))
        assert not await inbox.add(event("evt_1"))
    finally:
        store.change("DROP INDEX of_your_own")


@on_postgresql("SQLite gives out no id twice")
async def test_an_event_whose_row_id_is_taken_is_no_duplicate(inbox: Inbox, store: Store) -> None:
    assert await inbox.add(event("evt_1"))
    [row] = store.rows()
    store.change(f"SELECT setval('inbox_id_seq', {row.id}, false)")

    with pytest.raises(StoreUnavailable):
        await inbox.add(event("evt_2"))

    assert await inbox.add(event("evt_2"))
    assert len(store.rows()) == 2


async def test_what_cannot_be_stored_fails_alone(inbox: Inbox, store: Store) -> None:
    bad = Event(NAME, "evt_bad", None, b"", None)  # type: ignore[arg-type]
    good = [event(f"evt_{number}") for number in range(5)]
    await inbox.add(event("evt_first"))  # with which the tables were made

    results = await asyncio.gather(
        *(inbox.add(each) for each in [*good[:3], bad, *good[3:]]), return_exceptions=True
    )

    assert [type(result) for result in results] == [bool] * 3 + [StoreUnavailable] + [bool] * 2
    assert len(store.rows()) == 6


async def test_nobody_waits_for_the_database_for_longer_than_the_deadline(inbox: Inbox) -> None:
    async with inbox._lock:  # nothing is written meanwhile
        begun = time.monotonic()
        adding = (inbox.add(event()) for _ in range(10))
        results = await asyncio.gather(*adding, return_exceptions=True)

        assert {type(result) for result in results} == {TimeoutError}
        waited = time.monotonic() - begun
        assert waited == pytest.approx(settings.ack_deadline_seconds, abs=0.5)
        assert inbox._commits._gathering == {}  # who gives up leaves nothing behind
    assert await inbox.add(event())


@on_postgresql("SQLite locks no rows")
async def test_a_row_that_somebody_has_locked_keeps_no_new_event_waiting_for_too_long(
    inbox: Inbox, store: Store
) -> None:
    await inbox.add(event("evt_1"))
    [claim] = await inbox.claim_due(1)
    with store.engine.begin() as somebody:
        somebody.execute(sa.select(table).with_for_update())
        ending = inbox.finish(claim.key, "done")
        await asyncio.to_thread(
            wait_for, lambda: not inbox._commits._gathering, "the commit to begin"
        )

        assert await inbox.add(event("evt_2"))

        with pytest.raises(StoreUnavailable):
            await ending
    assert await inbox.finish(claim.key, "done")


@on_postgresql("SQLite has no connections that a server could close")
async def test_a_connection_that_was_closed_while_idle_costs_no_event(
    inbox: Inbox, store: Store
) -> None:
    await inbox.add(event("evt_first"))
    with inbox._commits._engine.begin() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    store.change(f"SELECT pg_terminate_backend({pid}, 10000)")

    assert await inbox.add(event())


@on_postgresql("SQLite's transactions take turns")
async def test_two_may_add_one_event_whatever_isolation_is_usual_there(
    inbox: Inbox, store: Store
) -> None:
    """In a stricter one PostgreSQL fails the second; this holds for what commits itself, too."""
    database, isolation = store.engine.url.database, "default_transaction_isolation"
    store.change(f"ALTER DATABASE {database} SET {isolation} = 'repeatable read'")
    try:
        for engine in (inbox._commits._engine, inbox._commits._auto):
            with engine.begin() as connection:
                level = connection.exec_driver_sql("SHOW transaction_isolation").scalar()
                assert level == "read committed"
    finally:
        store.change(f"ALTER DATABASE {database} RESET {isolation}")


async def test_a_commit_is_on_disk(inbox: Inbox) -> None:
    with inbox._commits._engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            names = ("PRAGMA journal_mode", "PRAGMA synchronous")
            assert [connection.exec_driver_sql(name).scalar() for name in names] == ["wal", 2]
        else:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


async def test_what_is_being_written_when_it_closes_is_kept(store: Store) -> None:
    inbox = Inbox()
    adding = asyncio.create_task(inbox.add(event("evt_1")))
    await asyncio.sleep(0)

    await inbox.close()

    assert await adding
    assert [row.event_id for row in store.rows()] == ["evt_1"]


async def test_an_event_is_done_once(inbox: Inbox) -> None:
    await inbox.add(event())
    [claim] = await inbox.claim_due(1)
    async with inbox.transaction(claim.key):
        pass
    with pytest.raises(LeaseLost):
        async with inbox.transaction(claim.key):
            pass


async def test_the_longest_due_are_claimed_first_and_once(inbox: Inbox) -> None:
    for number in range(5):
        await inbox.add(event(f"evt_{number}"))

    first, second = await inbox.claim_due(3), await inbox.claim_due(3)

    # The longest due come first, but among each other in any order: PostgreSQL promises none.
    assert {claim.event_id for claim in first} == {"evt_0", "evt_1", "evt_2"}
    assert {claim.event_id for claim in second} == {"evt_3", "evt_4"}
    assert await inbox.claim_due(3) == []


async def test_the_look_for_due_events_goes_past_those_that_are_not(
    inbox: Inbox, store: Store
) -> None:
    waiting = {"provider": NAME, "type": "test.happened", "payload": b"{}", "due_at": 1e12}
    with store.engine.begin() as connection:
        connection.execute(table.insert(), [{"event_id": str(n)} | waiting for n in range(3000)])
    store.change("ANALYZE inbox")
    updates = updates_of(inbox)

    await inbox.claim_due(1)
    async with inbox.handover(1):
        pass

    range_of_index = r"inbox_due (on inbox.*\n *Index Cond: )?\(due_at ?<"
    assert len(updates) == 2
    for update in updates:
        assert re.search(range_of_index, plan(store, *update))


@on_postgresql("SQLite has no statistics of its tables unless it is asked for them")
async def test_no_update_reads_all_events_though_they_were_few_when_it_was_planned(
    inbox: Inbox, store: Store
) -> None:
    """PostgreSQL keeps the plan of a prepared statement until it has gathered statistics anew."""
    await inbox.add(event("evt_1"))
    await inbox.add(event("evt_2"))
    store.change("ANALYZE inbox")
    updates = updates_of(inbox)

    [first] = await inbox.claim_due(1)
    async with inbox.handover(1) as [key]:
        second = await inbox.claim(key)
    assert second
    assert await inbox.finish(first.key, "done")
    assert await inbox.finish(second.key, "pending")

    assert len(updates) == 5
    for update in updates:
        assert "Seq Scan" not in plan(store, *update)


@on_postgresql("SQLite plans anew")
async def test_a_handler_s_statements_are_planned_for_the_tables_as_they_are(inbox: Inbox) -> None:
    for number in range(8):
        await inbox.add(event(f"evt_{number}"))
        [claim] = await inbox.claim_due(1)
        async with inbox.transaction(claim.key) as connection:
            query = sa.text("SELECT count(*) FROM pg_prepared_statements")
            assert await connection.scalar(query) == 0


async def test_two_inboxes_never_claim_the_same_event(inbox: Inbox) -> None:
    other = Inbox()
    for number in range(30):
        await inbox.add(event(f"evt_{number}"))

    taken = await asyncio.gather(*(each.claim_due(4) for _ in range(6) for each in (inbox, other)))
    await other.close()

    ids = [claim.event_id for claims in taken for claim in claims]
    assert len(ids) == len(set(ids))
    assert len(ids) >= 24


async def test_a_claim_is_a_lease_that_runs_out(inbox: Inbox, store: Store) -> None:
    await inbox.add(event())
    [first] = await inbox.claim_due(1)
    left = store.rows()[0].due_at - time.time()
    assert left == pytest.approx(LEASE_SECONDS, abs=1)
    assert settings.handler_timeout_seconds < LEASE_SECONDS

    make_due(store)

    [second] = await inbox.claim_due(1)
    assert (first.attempts, second.attempts) == (1, 2)


async def test_what_is_claimed_together_is_not_due_together_again(
    inbox: Inbox, store: Store
) -> None:
    for number in range(7):
        await inbox.add(event(f"evt_{number}"))
    store.change("UPDATE inbox SET attempts = attempts + 1000")

    assert len(await inbox.claim_due(7)) == 7

    leases = sorted(row.due_at - time.time() for row in store.rows())
    assert min(later - sooner for sooner, later in pairwise(leases)) > LEASE_SECONDS / 40
    assert LEASE_SECONDS - 1 < leases[0] < leases[-1] < LEASE_SECONDS * 1.5


async def test_an_attempt_whose_lease_is_lost_cannot_finish_the_event(
    inbox: Inbox, store: Store
) -> None:
    await inbox.add(event())
    [slow] = await inbox.claim_due(1)
    make_due(store)
    [fast] = await inbox.claim_due(1)

    assert not await inbox.finish(slow.key, "done")
    assert not await inbox.finish(slow.key, "dead", error="too late")
    assert store.rows()[0].state == "pending"
    assert await inbox.finish(fast.key, "done")
    assert not await inbox.finish(fast.key, "pending", delay=0)
    assert (store.rows()[0].state, store.rows()[0].error) == ("done", None)


@pytest.mark.parametrize("state", ["done", "dead"])
async def test_an_attempt_that_ends_is_not_overtaken_in_the_same_commit(
    inbox: Inbox, store: Store, state: State
) -> None:
    """Had it claimed before it finishes, two processes could each wait for the other's row."""
    await inbox.add(event())
    [late] = await inbox.claim_due(1)
    make_due(store)

    claims, ended = await asyncio.gather(inbox.claim_due(1), inbox.finish(late.key, state))

    assert (claims, ended) == ([], True)


async def test_of_attempts_that_end_together_only_the_late_one_is_told(
    inbox: Inbox, store: Store
) -> None:
    for number in range(3):
        await inbox.add(event(f"evt_{number}"))
    claims = sorted(await inbox.claim_due(3))
    store.change(sa.update(table).where(table.c.event_id == "evt_1").values(due_at=0))
    await inbox.claim_due(1)

    ended = await asyncio.gather(*(inbox.finish(claim.key, "done") for claim in claims))

    assert ended == [True, False, True]
    assert [row.state for row in store.rows()] == ["done", "pending", "done"]


async def test_an_attempt_whose_lease_is_lost_commits_nothing(inbox: Inbox, store: Store) -> None:
    await inbox.add(event())
    [slow] = await inbox.claim_due(1)
    make_due(store)
    await inbox.claim_due(1)

    with pytest.raises(LeaseLost):
        async with inbox.transaction(slow.key) as db:
            await db.execute(sa.text("DELETE FROM inbox"))
    assert len(store.rows()) == 1


async def test_a_message_is_good_for_one_attempt(inbox: Inbox, store: Store) -> None:
    await inbox.add(event())
    async with inbox.handover(10) as keys:
        [key] = keys
    assert key.attempts == 0

    copies = [await inbox.claim(key) for _ in range(3)]

    assert [claim is not None for claim in copies] == [True, False, False]
    assert await inbox.claim(Key(key.id + 1, 0)) is None
    assert store.rows()[0].attempts == 1


async def test_what_no_worker_takes_is_handed_over_again_ever_more_rarely(
    inbox: Inbox, store: Store
) -> None:
    await inbox.add(event())
    waits = []
    for age in (0, 5, 1e6):
        store.change(sa.update(table).values(due_at=0, received_at=table.c.received_at - age))
        async with inbox.handover(10) as keys:
            assert len(keys) == 1
        async with inbox.handover(10) as keys:
            assert keys == []
        waits.append(store.rows()[0].due_at - time.time())

    shortest = settings.handover_seconds
    assert waits == pytest.approx([shortest, 5, 20 * shortest], abs=0.9)


async def test_what_cannot_be_put_into_the_queue_is_due_at_once(inbox: Inbox) -> None:
    for number in range(5):
        await inbox.add(event(f"evt_{number}"))
    updates = updates_of(inbox)
    with pytest.raises(ConnectionError):
        async with inbox.handover(10):
            raise ConnectionError
    assert len(updates) == 2  # nobody waits for one after another
    async with inbox.handover(10) as keys:
        assert len(keys) == 5
