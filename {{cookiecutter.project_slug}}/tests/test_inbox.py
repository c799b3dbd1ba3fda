"""The inbox: what is in it once is in it for good, and only one attempt at a time has it."""

import asyncio
import re
import sqlite3
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app import database
from app.commits import StoreUnavailable
from app.config import settings
from app.database import is_sqlite
from app.events import Event, LeaseLost
from app.inbox import LEASE_SECONDS, Inbox, State
from app.models import Key
from app.models import inbox as table
from tests.support import NAME, Store, event, on_postgresql, on_sqlite, wait_for

pytestmark = pytest.mark.anyio


def make_due(store: Store) -> None:
    """Let the lease, or the wait for a retry, of every pending event run out."""
    store.change("UPDATE inbox SET due_at = 0 WHERE due_at IS NOT NULL")


def statements_of(inbox: Inbox, word: str) -> list[tuple[str, Any]]:
    """Return a list that will have each statement with this word in it, and its parameters."""
    statements: list[tuple[str, Any]] = []

    def watch(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if word in statement:
            statements.append((statement, parameters))

    sa.event.listen(inbox._commits._engine, "before_cursor_execute", watch)
    return statements


def let_thousands_wait(store: Store) -> None:
    """Fill the inbox with events that are not due for long, and let the database know."""
    waiting = {"provider": NAME, "type": "test.happened", "payload": b"{}", "due_at": 1e12}
    with store.engine.begin() as connection:
        connection.execute(table.insert(), [{"event_id": str(n)} | waiting for n in range(3000)])
    store.change("ANALYZE inbox")


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


@on_sqlite("PostgreSQL has no file that is made by who comes first")
async def test_that_another_process_is_making_the_database_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new.db"
    monkeypatch.setattr(database, "url", database.url.set(database=str(file)))
    monkeypatch.setattr(database, "TIMEOUT_SECONDS", 0)  # not at all: SQLite only does so at times
    with closing(sqlite3.connect(file, isolation_level=None)) as another:
        another.execute("CREATE TABLE something (anything INTEGER)")
        another.execute("BEGIN")
        another.execute("SELECT * FROM something")
        engine, _ = database.connect()
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT * FROM something").all() == []
        engine.dispose()


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
    let_thousands_wait(store)
    updates = statements_of(inbox, "UPDATE")

    await inbox.claim_due(1)
    async with inbox.handover():
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
    updates = statements_of(inbox, "UPDATE")

    [first] = await inbox.claim_due(1)
    async with inbox.handover() as [key]:
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
    async with inbox.handover() as keys:
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
    for age in (-1e6, 1e6, 5, 1e6):  # of which the first is due to a clock that was set back
        store.change(sa.update(table).values(due_at=0, received_at=table.c.received_at - age))
        async with inbox.handover() as keys:
            assert len(keys) == 1
        async with inbox.handover() as keys:
            assert keys == []
        waits.append(store.rows()[0].due_at - time.time())

    shortest = settings.handover_seconds * (1 + store.rows()[0].id % 64 / 64)
    assert waits == pytest.approx([shortest, shortest, shortest + 5, 10 * shortest], abs=0.9)


async def test_what_was_handed_over_at_one_time_is_not_handed_over_again_at_one_time(
    inbox: Inbox, store: Store
) -> None:
    for number in range(100):
        await inbox.add(event(f"evt_{number}"))
    store.change(sa.update(table).values(received_at=time.time(), due_at=0))
    async with inbox.handover() as keys:
        assert len(keys) == 100

    times = sorted(row.due_at for row in store.rows())
    assert all(after - before < 0.1 for before, after in pairwise(times))
    assert times[-1] - times[0] > settings.handover_seconds / 2


async def handed_over(inbox: Inbox) -> list[Key]:
    """Hand over until nothing more is taken."""
    taken: list[Key] = []
    while True:
        async with inbox.handover() as keys:
            taken += keys
        if not keys:
            return taken


async def test_a_backlog_waits_in_the_inbox_and_not_in_the_queue(
    inbox: Inbox, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.inbox.WINDOW", 20)
    for number in range(50):
        await inbox.add(event(f"evt_{number}"))

    first = await handed_over(inbox)
    assert len(first) == 20
    queued = sa.update(table).where(table.c.due_at > time.time())
    store.change(queued.values(due_at=1e12))  # the test may take its time
    for key in first[:3]:
        assert await inbox.claim(key)
    second = await handed_over(inbox)
    assert len(second) == 3
    for key in first[3:] + second:
        assert await inbox.claim(key)
    third = await handed_over(inbox)
    assert len(third) == 20

    keys = first + second + third
    assert len(set(keys)) == 43


async def test_while_the_queue_is_full_the_relay_is_to_look_again(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not to wait for the next event, or for SWEEP_SECONDS."""
    monkeypatch.setattr("app.inbox.WINDOW", 2)
    for number in range(3):
        await inbox.add(event(f"evt_{number}"))
    first = await handed_over(inbox)
    inbox.arrived.clear()
    assert await handed_over(inbox) == []
    assert inbox.arrived.is_set()

    for key in first:
        await inbox.claim(key)
    assert len(await handed_over(inbox)) == 1
    inbox.arrived.clear()
    assert await handed_over(inbox) == []
    assert not inbox.arrived.is_set()


@pytest.mark.parametrize("age", [0, 1000])
async def test_messages_that_were_lost_make_room_after_a_while(
    inbox: Inbox, store: Store, monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    monkeypatch.setattr("app.inbox.WINDOW", 5)
    for number in range(12):
        await inbox.add(event(f"evt_{number}"))
    received = table.c.received_at - age
    store.change(sa.update(table).values(received_at=received, due_at=received))
    lost = await handed_over(inbox)
    assert len(lost) == 5

    ago = settings.handover_seconds * (2.1 if age == 0 else 4.1)
    times = {"received_at": table.c.received_at - ago, "due_at": table.c.due_at - ago}
    store.change(sa.update(table).values(**times))

    more = await handed_over(inbox)
    assert len(more) == 5
    assert set(more).isdisjoint(lost)


async def test_what_could_not_be_put_into_the_queue_takes_no_room_there(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.inbox.WINDOW", 5)
    for number in range(7):
        await inbox.add(event(f"evt_{number}"))
    for _ in range(3):
        with pytest.raises(ConnectionError):
            async with inbox.handover():
                raise ConnectionError
        assert not inbox._queued
    assert len(await handed_over(inbox)) == 5


async def test_what_is_still_in_the_queue_is_looked_up_by_its_id(
    inbox: Inbox, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not among all that wait for something: that may be any number."""
    monkeypatch.setattr("app.inbox.WINDOW", 3)
    let_thousands_wait(store)
    for number in range(3):
        await inbox.add(event(f"evt_{number}"))
    await handed_over(inbox)

    queries = statements_of(inbox, "SELECT")
    await handed_over(inbox)

    [query] = [each for each in queries if "UPDATE" not in each[0]]
    assert re.search("inbox_pkey|INTEGER PRIMARY KEY", plan(store, *query))


async def test_what_cannot_be_put_into_the_queue_is_due_at_once(inbox: Inbox) -> None:
    for number in range(5):
        await inbox.add(event(f"evt_{number}"))
    updates = statements_of(inbox, "UPDATE")
    with pytest.raises(ConnectionError):
        async with inbox.handover():
            raise ConnectionError
    assert len(updates) == 2  # nobody waits for one after another
    async with inbox.handover() as keys:
        assert len(keys) == 5
