"""Retention: payloads and errors go, and ids stay as long as somebody may deliver them again."""

import asyncio
import time
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from app.cli import cli
from app.inbox import retention, statements
from app.inbox.inbox import Added, Inbox
from app.inbox.table import webhook_attempts, webhook_events
from app.settings import settings
from tests.delivery import Database
from tests.engine.service import delivery
from tests.engine.store import on_postgresql, stored, until

pytestmark = pytest.mark.anyio

DAY = 86400


async def add_done(inbox: Inbox, database: Database, event_id: str, days_ago: float) -> None:
    """Add an event that was done so many days ago, at the second attempt."""
    await inbox.add("test", delivery(event_id))
    [claim] = await inbox.claim_due(1)
    await inbox.retry(claim, 0, "Traceback: jenny@example.com")
    [claim] = await inbox.claim_due(1)
    await inbox.complete(claim)
    of_event = sa.update(webhook_events).where(webhook_events.c.event_id == event_id)
    await database.execute(of_event.values(finished_at=time.time() - days_ago * DAY))


async def until_pruned(database: Database, event_id: str) -> None:
    for _ in range(500):
        if (await stored(database, event_id)).state == "pruned":
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{event_id} was not pruned")


def no_pause(seconds: float) -> None:
    """Do not wait."""


def prune(database: Database, days: float = 30) -> tuple[int, int]:
    return retention.prune(database.engine, days, retention.KEEP_IDS_DAYS, no_pause)


async def test_payload_and_errors_go_and_the_id_stays(inbox: Inbox, database: Database) -> None:
    await add_done(inbox, database, "evt_old", days_ago=31)
    await add_done(inbox, database, "evt_new", days_ago=29)

    assert prune(database) == (1, 0)

    old, new = await stored(database, "evt_old"), await stored(database, "evt_new")
    assert (old.state, old.payload, old.error, old.due_at) == ("pruned", b"", None, None)
    assert (new.state, new.payload) == ("done", delivery("evt_new").payload)
    [attempt] = await database.rows(sa.select(webhook_attempts))
    assert attempt.event == new.id


@pytest.mark.parametrize("event_type", ["test.happened", "another"])
async def test_what_was_pruned_is_still_recognised(
    inbox: Inbox, database: Database, event_type: str
) -> None:
    await add_done(inbox, database, "evt_1", days_ago=31)
    prune(database)

    assert await inbox.add("test", delivery("evt_1", event_type)) is Added.DUPLICATE
    assert await inbox.claim_due(1) == []


async def test_an_id_is_forgotten_in_the_end(inbox: Inbox, database: Database) -> None:
    await add_done(inbox, database, "evt_1", days_ago=retention.KEEP_IDS_DAYS + 1)

    assert prune(database) == (1, 1)

    assert await database.rows(sa.select(webhook_events)) == []


async def test_nothing_is_pruned_that_somebody_may_need(inbox: Inbox, database: Database) -> None:
    await inbox.add("test", delivery("evt_dead"))
    [claim] = await inbox.claim_due(1)
    await inbox.bury(claim, "an error")
    await inbox.add("test", delivery("evt_pending"))
    await database.execute(sa.update(webhook_events).values(finished_at=0, received_at=0))

    assert prune(database) == (0, 0)


async def test_an_event_without_a_payload_is_not_replayed(inbox: Inbox, database: Database) -> None:
    await add_done(inbox, database, "evt_1", days_ago=31)
    prune(database)

    result = await asyncio.to_thread(CliRunner().invoke, cli, ["replay", "evt_1"])

    assert result.exit_code == 1
    assert (await stored(database, "evt_1")).state == "pruned"


async def test_pruning_goes_on_page_by_page_and_lets_others_have_their_turn(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PAGE", 2)
    for number in range(5):
        await add_done(inbox, database, f"evt_{number}", days_ago=31)
    pauses: list[float] = []

    pruned, _ = retention.prune(database.engine, 30, 365, pauses.append)

    assert pruned == 5
    assert len(pauses) == 3


@on_postgresql("SQLite has one writer at a time")
async def test_one_process_prunes_at_a_time(inbox: Inbox, database: Database) -> None:
    await add_done(inbox, database, "evt_1", days_ago=31)
    with database.engine.begin() as other:
        other.execute(statements.LOCK_PRUNING)
        assert prune(database) == (0, 0)

    assert prune(database) == (1, 0)


# On a schedule


async def test_nothing_is_pruned_by_itself_unless_that_is_set(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Sequence[object]] = []
    monkeypatch.setattr(retention, "_prune_daily", lambda *arguments: started.append(arguments))

    with retention.pruning():
        pass
    assert started == []

    monkeypatch.setattr(settings, "prune_after_days", 30)
    with retention.pruning():
        await until(lambda: len(started) == 1)


@pytest.mark.usefixtures("inbox")
async def test_a_service_prunes_when_it_starts_and_once_a_day(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_done(inbox, database, "evt_0", days_ago=31)
    monkeypatch.setattr(retention, "INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(settings, "prune_after_days", 1)

    with retention.pruning():
        await until_pruned(database, "evt_0")
        await add_done(inbox, database, "evt_1", days_ago=31)
        await until_pruned(database, "evt_1")


async def test_a_database_that_is_away_ends_no_schedule(
    inbox: Inbox,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await add_done(inbox, database, "evt_1", days_ago=31)
    monkeypatch.setattr(retention, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(settings, "prune_after_days", 1)
    await database.execute("ALTER TABLE webhook_events RENAME TO lost")
    try:
        with retention.pruning():
            await until(lambda: "nothing pruned" in caplog.text)
            await database.execute("ALTER TABLE lost RENAME TO webhook_events")
            await until_pruned(database, "evt_1")
    finally:
        tables = await asyncio.to_thread(sa.inspect(database.engine).get_table_names)
        if "lost" in tables:
            await database.execute("ALTER TABLE lost RENAME TO webhook_events")
