"""What is on record: each attempt that did not end well, the one that did, and replays."""

import asyncio
import getpass
import os
import re
import socket
import time
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from app.cli import cli
from app.events import Event, Permanent
from app.inbox import history
from app.inbox.group_commit import StoreUnavailable
from app.inbox.inbox import Inbox
from app.inbox.table import webhook_attempts, webhook_events, webhook_replays
from app.processing.attempt import attempt
from app.settings import settings
from app.webhooks.endpoint import Handler, by_name
from tests.delivery import Database
from tests.engine.conftest import Try
from tests.engine.service import delivery, endpoint, handle
from tests.engine.store import make_due, stored

pytestmark = pytest.mark.anyio

WORKER = f"{socket.gethostname()}:{os.getpid()}"


@pytest.fixture(autouse=True)
async def one_event(inbox: Inbox) -> None:
    """The event whose life is looked at."""
    await inbox.add("test", delivery("evt_1"))


async def fail(event: Event) -> None:
    raise ValueError("no such order")


async def give_up(event: Event) -> None:
    raise Permanent("no such order")


async def never_end(event: Event) -> None:
    await asyncio.Event().wait()


async def lose_the_database(event: Event) -> None:
    raise StoreUnavailable("no connection left")


SEVERAL_LINES = """Traceback (most recent call last):
  File "app/handlers/orders.py", line 1, in handle
    await db.execute(row)
    ~~~~~~~~~~^^^^^
sqlalchemy.exc.IntegrityError: (sqlite3.IntegrityError) UNIQUE constraint failed: payments.event_id
[SQL: INSERT INTO payments
  VALUES (?)]
(Background on this error at: https://sqlalche.me/e/21/gkpj)
"""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SEVERAL_LINES, 4),
        (f"{SEVERAL_LINES}\nDuring its handling, another one:\n\n{SEVERAL_LINES}", 4),
        ("the process was about to end", 0),
    ],
    ids=["one", "two", "none"],
)
async def test_the_reason_is_the_line_with_the_exception(error: str, line: int) -> None:
    assert history.reason(error) == error.splitlines()[line]


async def attempts(database: Database) -> list[Any]:
    """Return the attempts that are on record beside the event."""
    return await database.rows(sa.select(webhook_attempts).order_by(webhook_attempts.c.number))


async def life(database: Database) -> list[history.Moment]:
    event = await stored(database)
    with database.engine.connect() as connection:
        return history.life(connection, event)


async def command(*arguments: str) -> str:
    result = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("handler", "outcome", "error"),
    [
        (fail, "failed", "ValueError: no such order"),
        (never_end, "timed out", "the handler took longer than"),
        (give_up, "dead", "Permanent: no such order"),
        (lose_the_database, "released", "the database is away: no connection left"),
    ],
)
async def test_an_attempt_that_did_not_end_well_is_on_record(
    try_with: Try,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    handler: Handler,
    outcome: str,
    error: str,
) -> None:
    monkeypatch.setattr(settings, "handler_timeout_seconds", 0.02)

    event = await try_with(handler)

    [row] = await attempts(database)
    assert (row.event, row.number, row.outcome, row.worker) == (event.id, 1, outcome, WORKER)
    assert error in row.error
    assert time.time() - 5 < row.started_at <= row.ended_at
    assert [moment.outcome for moment in await life(database)] == ["", outcome]


async def test_an_attempt_that_a_shutdown_cut_short_is_on_record(
    inbox: Inbox, database: Database
) -> None:
    [claim] = await inbox.claim_due(1)
    task = asyncio.create_task(attempt(inbox, by_name([endpoint(never_end)]), claim))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])

    [row] = await attempts(database)
    assert (row.outcome, row.error) == ("released", "the process was about to end")


@pytest.mark.parametrize("by_message", [False, True])
async def test_an_attempt_whose_process_died_is_on_record_once_another_begins(
    try_with: Try, inbox: Inbox, database: Database, by_message: bool
) -> None:
    await inbox.claim_due(1)
    await make_due(database)
    if by_message:
        [reference] = await inbox.dispatch_due()
        assert await inbox.claim(reference)
    else:
        assert await inbox.claim_due(1)

    [row] = await attempts(database)
    assert (row.number, row.outcome, row.worker) == (1, "lost", WORKER)
    assert (row.ended_at, row.error) == (None, None)
    await try_with(handle)
    assert [row.number for row in await attempts(database)] == [1, 2]


async def test_an_attempt_that_was_overtaken_is_on_record_once(
    try_with: Try, inbox: Inbox, database: Database
) -> None:
    async def overtaken(event: Event) -> None:
        await make_due(database)
        await inbox.claim_due(1)
        raise ValueError

    await try_with(overtaken)

    assert [(row.number, row.outcome) for row in await attempts(database)] == [(1, "lost")]


async def test_an_attempt_that_ended_is_not_lost(try_with: Try, database: Database) -> None:
    for handler in (fail, lose_the_database, fail, handle):
        await try_with(handler)

    outcomes = [row.outcome for row in await attempts(database)]
    assert outcomes == ["failed", "released", "failed"]


async def test_the_attempt_that_was_successful_is_on_record_in_the_row_of_its_event(
    try_with: Try, database: Database
) -> None:
    row = await try_with(handle)

    assert await attempts(database) == []
    assert row.worker == WORKER
    assert time.time() - 5 < row.started_at <= row.finished_at


async def test_two_attempts_with_one_number_are_no_error(inbox: Inbox, database: Database) -> None:
    """PostgreSQL may lose a claim in a crash, and then gives the same attempt to another worker."""
    [claim] = await inbox.claim_due(1)
    await inbox.retry(claim, 0, "first")
    await inbox.retry(claim, 0, "second")

    assert [row.error for row in await attempts(database)] == ["first"]


# Replays


async def test_who_had_an_event_replayed_is_on_record(try_with: Try, database: Database) -> None:
    await try_with(give_up)

    await command("replay", "evt_1")

    [row] = await database.rows(sa.select(webhook_replays))
    assert row.event == (await stored(database)).id
    assert row.replayed_by == f"{getpass.getuser()}@{socket.gethostname()}"
    assert row.replayed_at == pytest.approx(time.time(), abs=5)


async def test_a_user_without_a_name_can_replay_an_event(
    try_with: Try, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs under any number."""

    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", no_name)
    await try_with(give_up)

    await command("replay", "evt_1")

    [row] = await database.rows(sa.select(webhook_replays))
    assert row.replayed_by == f"unknown@{socket.gethostname()}"


async def test_a_replay_loses_no_attempt_from_the_record(try_with: Try, database: Database) -> None:
    for handler in (fail, handle):
        await try_with(handler)

    await command("replay", "evt_1")
    await try_with(handle)

    assert [(row.number, row.outcome) for row in await attempts(database)] == [
        (1, "failed"),
        (2, "done"),
    ]
    told = [(moment.what, moment.outcome) for moment in await life(database)]
    assert told == [
        ("received", ""),
        ("attempt 1", "failed"),
        ("attempt 2", "done"),
        ("replayed", ""),
        ("attempt 3", "done"),
    ]


async def test_a_pending_event_is_neither_replayed_nor_on_record_as_that(
    database: Database,
) -> None:
    with database.engine.begin() as connection:
        assert history.replay(connection, webhook_events.c.event_id == "evt_1", "me") == []

    assert await database.rows(sa.select(webhook_replays)) == []


# Telling


async def test_an_attempt_in_progress_is_told(inbox: Inbox, database: Database) -> None:
    await inbox.claim_due(1)

    assert [(moment.what, moment.outcome, moment.who) for moment in await life(database)] == [
        ("received", "", ""),
        ("attempt 1", "in progress", WORKER),
    ]


async def test_show_tells_the_life_of_an_event(try_with: Try) -> None:
    for handler in (fail, give_up):
        await try_with(handler)
    await command("replay", "evt_1")
    await try_with(handle)

    shown = await command("show", "evt_1")

    lines = [line.partition("Z  ")[2] for line in shown.splitlines() if "Z  " in line]
    told = [re.sub(r"after \d+\.\d s", "after a while", line) for line in lines]
    assert told == [
        "received",
        f"attempt 1 failed after a while on {WORKER}: ValueError: no such order",
        f"attempt 2 dead after a while on {WORKER}: app.events.Permanent: no such order",
        f"replayed by {getpass.getuser()}@{socket.gethostname()}",
        f"attempt 3 done after a while on {WORKER}",
    ]


async def test_pruning_takes_the_record_along(try_with: Try, database: Database) -> None:
    await try_with(give_up)
    await command("replay", "evt_1")
    await try_with(handle)

    assert await command("prune", "--days", "0") == "1 pruned, 0 deleted\n"

    assert await attempts(database) == []
    assert await database.rows(sa.select(webhook_replays)) == []
