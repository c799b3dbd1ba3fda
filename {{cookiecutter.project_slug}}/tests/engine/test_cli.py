"""The commands of `python -m app`."""

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn
from urllib.request import Request

import pytest
import sqlalchemy as sa
import uvicorn
from typer.testing import CliRunner, Result

from app import cli, samples
from app.database import url
from app.events import Delivery
from app.inbox.inbox import Inbox
from app.inbox.table import webhook_events
from app.webhooks.endpoint import Endpoint
from tests.delivery import Database
from tests.engine.service import SharedSecret, application, delivery, endpoint, handle
from tests.engine.store import (
    CLOSED_PORT,
    connect_to,
    locked,
    on_postgresql,
    on_sqlite,
    stored,
    until,
)

pytestmark = pytest.mark.anyio


async def run(*arguments: str) -> Result:
    """Run a command."""
    runner = CliRunner(env={"COLUMNS": "200"})
    return await asyncio.to_thread(runner.invoke, cli.cli, arguments)


async def output(*arguments: str) -> str:
    """Return what a command prints, if it succeeds."""
    result = await run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


async def refusal(*arguments: str) -> str:
    """Return the one line with which a command fails."""
    result = await run(*arguments)
    assert result.exit_code == 1, result.output
    [line] = result.output.strip().splitlines()
    return line


@pytest.fixture
async def three_events(inbox: Inbox) -> None:
    """The events evt_0, which is done, evt_1, which is dead, and evt_2, which is pending."""
    for number in range(3):
        sent = delivery(f"evt_{number}", name="Zoë")
        await inbox.add("test", replace(sent, headers={"X-Delivery": f"d-{number}"}))
    first, second = sorted(await inbox.claim_due(2), key=lambda claim: claim.id)
    await inbox.complete(first)
    await inbox.bury(second, "Traceback: it broke")


@pytest.mark.usefixtures("three_events")
async def test_events_lists_the_newest_first() -> None:
    table = await output("events")

    positions = [
        table.index(word) for word in ("evt_2", "pending", "evt_1", "dead", "evt_0", "done")
    ]
    assert positions == sorted(positions)
    assert "test.happened" in table


@pytest.mark.usefixtures("three_events")
async def test_events_may_be_those_in_one_state_and_only_so_many() -> None:
    dead = await output("events", "--state", "dead")
    assert ("evt_1" in dead, "evt_0" in dead, "evt_2" in dead) == (True, False, False)

    newest = await output("events", "--limit", "1")
    assert ("evt_2" in newest, "evt_1" in newest) == (True, False)


async def test_events_may_be_those_of_a_type_an_endpoint_and_a_time(
    inbox: Inbox, database: Database
) -> None:
    for event_id, event_type, name in [("a", "x", "test"), ("b", "y", "test"), ("c", "y", "o")]:
        await inbox.add(name, delivery(event_id, event_type))
    old = sa.update(webhook_events).where(webhook_events.c.event_id == "c")
    await database.execute(old.values(received_at=time.time() - 7200))

    async def listed(*arguments: str) -> list[str]:
        lines = (await output("events", "--json", *arguments)).splitlines()
        return [json.loads(line)["event_id"] for line in lines]

    assert await listed("--type", "y") == ["c", "b"]
    assert await listed("--endpoint", "test") == ["b", "a"]
    assert await listed("--since", "1h") == ["b", "a"]
    assert await listed("--since", "1d", "--type", "y", "--endpoint", "o") == ["c"]
    assert "--since is '1 hour': write a number and a unit" in await refusal(
        "events", "--since", "1 hour"
    )


async def test_events_can_be_followed(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    await inbox.add("test", delivery("evt_1"))
    loop = asyncio.get_running_loop()
    arrivals = iter(["evt_2", "evt_3"])

    def wait(_: float) -> None:
        event_id = next(arrivals, None)
        if event_id is None:
            raise KeyboardInterrupt
        asyncio.run_coroutine_threadsafe(inbox.add("test", delivery(event_id)), loop).result()

    monkeypatch.setattr("app.cli.time.sleep", wait)

    result = await run("events", "--json", "--follow", "--limit", "1")

    followed = [json.loads(line)["event_id"] for line in result.output.splitlines() if "{" in line]
    assert followed == ["evt_1", "evt_2", "evt_3"]


@pytest.mark.usefixtures("three_events")
async def test_events_can_be_json_without_payloads() -> None:
    lines = (await output("events", "--json")).splitlines()

    events = [json.loads(line) for line in lines]
    assert [(event["event_id"], event["state"]) for event in events] == [
        ("evt_2", "pending"),
        ("evt_1", "dead"),
        ("evt_0", "done"),
    ]
    assert not {"payload", "headers", "error"} & set(events[0])


async def test_an_id_is_listed_as_it_is(inbox: Inbox) -> None:
    event_ids = ["[/a]", "[red]x", ":bug:"]
    for event_id in event_ids:
        await inbox.add("test", delivery(event_id))

    table = await output("events")

    assert [event_id in table for event_id in event_ids] == [True] * 3


@pytest.mark.usefixtures("three_events")
async def test_show_prints_row_payload_and_traceback() -> None:
    shown = await output("show", "evt_1")

    assert '"state": "dead"' in shown
    assert '"X-Delivery": "d-1"' in shown
    assert delivery("evt_1", name="Zoë").payload.decode() in shown
    assert shown.endswith("last failure:\nTraceback: it broke\n")
    assert "has_slot" not in shown


@pytest.mark.usefixtures("three_events")
async def test_replay_makes_finished_events_due(database: Database) -> None:
    assert await output("replay", "evt_0", "evt_1", "evt_2") == "2 to be handled again\n"

    for event_id in ("evt_0", "evt_1"):
        event = await stored(database, event_id)
        assert (event.state, event.failures, event.finished_at) == ("pending", 0, None)


@pytest.mark.usefixtures("three_events")
async def test_replay_can_be_limited_to_one_endpoint(inbox: Inbox, database: Database) -> None:
    await inbox.add("other", delivery("evt_0"))

    assert "none of these" in await refusal("replay", "evt_0", "--endpoint", "other")
    assert await output("replay", "evt_0", "--endpoint", "test") == "1 to be handled again\n"


async def test_an_id_is_listed_in_one_line(inbox: Inbox) -> None:
    event_id = "evt_" + "0123456789abcdef" * 6
    await inbox.add("test", delivery(event_id, "a.rather.long.type.of.an.event"))

    assert event_id in await output("events")


@pytest.mark.usefixtures("three_events")
async def test_replay_can_be_for_all_dead_events(database: Database) -> None:
    assert await output("replay", "--dead") == "1 to be handled again\n"

    assert (await stored(database, "evt_1")).state == "pending"
    assert (await stored(database, "evt_0")).state == "done"


@pytest.mark.usefixtures("three_events")
async def test_export_writes_every_event_with_its_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "PAGE", 2)

    events = [json.loads(line) for line in (await output("export")).splitlines()]

    assert [event["event_id"] for event in events] == ["evt_0", "evt_1", "evt_2"]
    assert json.loads(events[0]["payload"])["name"] == "Zoë"
    assert events[0]["headers"] == {"X-Delivery": "d-0"}


@pytest.mark.usefixtures("three_events")
async def test_prune_empties_what_was_done_long_ago(database: Database) -> None:
    assert await output("prune", "--days", "1") == "0 pruned, 0 deleted\n"
    assert await output("prune", "--days", "0") == "1 pruned, 0 deleted\n"
    assert '"state": "pruned"' in await output("events", "--json", "--state", "pruned")

    done = {"state": "done", "due_at": None, "finished_at": 0}
    await database.execute(sa.update(webhook_events).values(**done))
    assert await output("prune") == "3 pruned, 3 deleted\n"
    assert await database.rows(sa.select(webhook_events)) == []


@on_sqlite("PostgreSQL uses the space again by itself")
async def test_shrink_gives_space_back_to_the_disk(inbox: Inbox, database: Database) -> None:
    for number in range(100):
        await inbox.add("test", delivery(f"evt_{number}", padding="x" * 1000))
    await database.execute(sa.delete(webhook_events))
    [(before,)] = await database.rows(sa.text("PRAGMA freelist_count"))

    await output("shrink")

    [(after,)] = await database.rows(sa.text("PRAGMA freelist_count"))
    assert (before > 20, after) == (True, 0)


@on_postgresql("SQLite does not use the space again by itself")
async def test_shrink_is_not_for_postgresql(database: Database) -> None:
    assert "autovacuum" in await refusal("shrink")


NOTHING_FINISHED = "none of these events is done or dead: see python -m app events"
NOTHING_NAMED = "name the events to replay, or use --dead for all dead ones"


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["show", "evt_x"], "there is no event evt_x: see python -m app events"),
        (["replay", "evt_x"], "none of these events is done or dead: see python -m app events"),
        (["replay", "--dead"], "none of these events is done or dead: see python -m app events"),
        (["replay"], "name the events to replay, or use --dead for all dead ones"),
        (
            ["replay", "evt_x", "--dead"],
            "name the events to replay, or use --dead for all dead ones",
        ),
    ],
)
async def test_what_cannot_be_done_is_said(arguments: list[str], problem: str) -> None:
    assert await refusal(*arguments) == problem


@pytest.mark.parametrize("arguments", [["events", "--limit", "0"], ["prune", "--days", "-1"]])
async def test_an_option_without_a_usable_value_is_refused(arguments: list[str]) -> None:
    assert (await run(*arguments)).exit_code == 2


# In the wrong place, or at the wrong time


@on_sqlite("it is about files")
@pytest.mark.parametrize(
    "arguments", [["events"], ["show", "evt_1"], ["replay", "--dead"], ["export"], ["prune"]]
)
async def test_in_the_wrong_folder_no_database_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    connect_to(url.set(database=str(tmp_path / "inbox.db")), monkeypatch)

    line = await refusal(*arguments)

    assert line.startswith("DATABASE_URL names a database without the table of events")
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@on_sqlite("it is about files")
async def test_an_empty_database_is_told_from_one_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "inbox.db")) as connection:
        connection.execute("VACUUM")
    connect_to(url.set(database=str(tmp_path / "inbox.db")), monkeypatch)

    assert "without the table of events" in await refusal("events")


@on_sqlite("it is about SQLite's one lock")
@pytest.mark.usefixtures("three_events")
async def test_reading_needs_no_lock(database: Database) -> None:
    with locked(database):
        async with asyncio.timeout(2):
            for arguments in (["events"], ["show", "evt_1"], ["export"]):
                assert "evt_1" in await output(*arguments)


@on_postgresql("a file is never away")
async def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    connect_to(url.set(port=CLOSED_PORT), monkeypatch)

    assert (await refusal("events")).startswith("DATABASE_URL: the database does not answer: ")


# Sending


async def verify() -> Delivery:
    """Verify anything: a function that signs no samples."""
    return delivery()


@pytest.fixture
def own_endpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints and a sample of the tests' own in the place of yours."""
    module: Any = ModuleType("app.endpoints")
    own = Endpoint("own", handler=handle)  # nobody can send to it
    function = Endpoint("function", verify=verify, handler=handle)
    module.endpoints = [own, endpoint(), endpoint(name="other"), function]
    monkeypatch.setitem(sys.modules, "app.endpoints", module)
    monkeypatch.setattr(samples, "FIXTURES", tmp_path)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "order.paid.json").write_text('{"data": {}}')


@pytest.fixture
async def server(database: Database) -> AsyncIterator[str]:
    """The URL of a service, behind a real socket."""
    app = application(endpoint(), endpoint(name="other"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    await serving


@pytest.mark.usefixtures("own_endpoints")
async def test_send_signs_and_posts_a_sample(server: str, database: Database) -> None:
    sent = await output("send", "order.paid", "--url", server)

    [event] = await database.rows(sa.select(webhook_events))
    assert sent == f'{event.event_id} 200 {{"received":true}}\n'
    assert (event.endpoint, event.event_type) == ("test", "order.paid")


@pytest.mark.usefixtures("own_endpoints")
async def test_send_can_choose_endpoint_and_id(server: str, database: Database) -> None:
    for _ in range(2):
        await output("send", "order.paid", "--url", server, "--endpoint", "other", "--id", "evt_1")

    [event] = await database.rows(sa.select(webhook_events))
    assert (event.endpoint, event.event_id) == ("other", "evt_1")


@pytest.mark.usefixtures("own_endpoints")
@pytest.mark.parametrize("content_type", ["", "application/x-www-form-urlencoded"])
async def test_send_keeps_the_content_type_of_a_sample(
    monkeypatch: pytest.MonkeyPatch, content_type: str
) -> None:
    given = {"Content-Type": content_type} if content_type else {}
    sent: list[str] = []

    class Form(SharedSecret):
        def sample(self, *arguments: Any) -> tuple[bytes, dict[str, str]]:
            payload, headers = super().sample(*arguments)
            return payload, headers | given

    def urlopen(request: Request, timeout: float) -> NoReturn:
        sent.append(str(request.get_header("Content-type")))
        raise ConnectionError

    endpoints = [Endpoint("form", verify=Form(), handler=handle)]
    monkeypatch.setattr(sys.modules["app.endpoints"], "endpoints", endpoints)
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    await refusal("send", "order.paid")

    assert sent == [content_type or "application/json"]


@pytest.mark.usefixtures("own_endpoints")
async def test_send_says_why_the_service_refused(server: str) -> None:
    line = await refusal("send", "order.paid", "--url", server, "--id", "x" * 256)

    assert f'{"x" * 256} 400 {{"detail":' in line


@pytest.mark.usefixtures("own_endpoints")
async def test_send_says_what_samples_and_endpoints_there_are() -> None:
    no_sample = await refusal("send", "no.such.type")
    no_endpoint = await refusal("send", "order.paid", "--endpoint", "nobody")
    no_path = await refusal("send", "order.paid", "--endpoint", "own")
    no_samples = await refusal("send", "order.paid", "--endpoint", "function")

    assert no_path == "endpoint 'own' has no verifier: only the service itself sends to it"
    assert no_samples == "endpoint 'function' has a verify function that signs no samples"
    assert no_sample.endswith("there is no sample no.such.type.json in tests/fixtures: order.paid")
    assert no_endpoint.endswith("no endpoint 'nobody': there are test, other, function")


@pytest.mark.usefixtures("own_endpoints")
@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "ftp://127.0.0.1:9", "nonsense"])
async def test_send_says_when_no_service_is_there(url: str) -> None:
    assert (await refusal("send", "order.paid", "--url", url)).startswith(
        f"no service answers at {url}: "
    )
