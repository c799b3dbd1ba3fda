"""The command line."""

import asyncio
import json

import pytest
from typer.testing import CliRunner, Result

from app.__main__ import cli
from app.inbox import Inbox
from tests.effects import SUBSCRIPTION_SAMPLE
from tests.support import NAME, Server, Store, event


def run(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(cli, arguments, env={"COLUMNS": "200"})


def test_send_signs_and_posts_a_sample_as_often_as_wanted(store: Store) -> None:
    server = Server()
    try:
        sample = ("send", SUBSCRIPTION_SAMPLE, "--provider", NAME, "--url", f"{server.url}/")
        sent = run(*sample)
        assert sent.exit_code == 0, sent.output
        [row] = store.rows()
        assert sent.output.split() == [row.event_id, "200", '{"received":', "true}"]
        assert row.type == SUBSCRIPTION_SAMPLE

        assert run(*sample, "--id", row.event_id).exit_code == 0
        assert len(store.rows()) == 1

        refused = run(*sample, "--id", "x" * 300)
        assert (refused.exit_code, " 4" in refused.output) == (1, True)
    finally:
        server.end()


def test_send_says_what_samples_there_are() -> None:
    refused = run("send", "no.such.type", "--provider", NAME)
    assert refused.exit_code == 1
    assert SUBSCRIPTION_SAMPLE in refused.output


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "ftp://example.com"])
def test_send_says_when_no_service_is_there(url: str) -> None:
    refused = run("send", SUBSCRIPTION_SAMPLE, "--provider", NAME, "--url", url)
    assert refused.exit_code == 1
    assert url in refused.output


@pytest.mark.anyio
async def test_events_are_listed_shown_exported_and_pruned(inbox: Inbox, store: Store) -> None:
    for number in range(3):
        await inbox.add(event(f"evt_{number}"))
    first, second = sorted(await inbox.claim_due(2))
    await inbox.finish(first.key, "done")
    await inbox.finish(second.key, "dead", error="Traceback: it broke")

    await asyncio.to_thread(check_the_commands, store)


def check_the_commands(store: Store) -> None:
    listed = [json.loads(line) for line in run("events", "--json").output.splitlines()]
    assert [(each["event_id"], each["state"]) for each in listed] == [
        ("evt_2", "pending"),
        ("evt_1", "dead"),
        ("evt_0", "done"),
    ]
    assert "payload" not in listed[0]
    table = run("events", "--state", "dead", "--limit", "5").output
    assert ("evt_1" in table, "evt_0" in table) == (True, False)

    shown = run("show", "evt_1").output
    assert "it broke" in shown
    assert "test.happened" in shown

    exported = [json.loads(line) for line in run("export").output.splitlines()]
    assert [json.loads(each["payload"])["id"] for each in exported] == ["evt_0", "evt_1", "evt_2"]

    assert run("prune", "--days", "1").output == "0 deleted\n"
    assert run("prune", "--days", "0").output == "1 deleted\n"
    assert [row.event_id for row in store.rows()] == ["evt_1", "evt_2"]

    assert run("replay", "evt_1").output == "1 to be handled again\n"
    assert store.row("evt_1").state == "pending"
    store.change("UPDATE inbox SET state = 'dead', due_at = NULL")
    assert run("replay", "--dead").output == "2 to be handled again\n"
    assert {row.state for row in store.rows()} == {"pending"}


@pytest.mark.anyio
async def test_an_id_is_listed_as_it_is(inbox: Inbox) -> None:
    ids = ["[/a]", "[red]x", ":bug:"]
    for id in ids:
        await inbox.add(event(id))
    table = await asyncio.to_thread(run, "events")
    assert [id in table.output for id in ids] == [True] * 3


@pytest.mark.anyio
async def test_more_events_than_fit_on_a_page_are_exported_and_pruned(
    inbox: Inbox, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await inbox.add(event(f"evt_{number}"))
    monkeypatch.setattr("app.__main__.PAGE", 2)

    exported = (await asyncio.to_thread(run, "export")).output.splitlines()
    ids = [json.loads(line)["event_id"] for line in exported]
    assert ids == [f"evt_{number}" for number in range(5)]

    store.change("UPDATE inbox SET state = 'done', due_at = NULL, finished_at = 0")
    assert (await asyncio.to_thread(run, "prune")).output == "5 deleted\n"
    assert store.rows() == []


def test_a_limit_is_at_least_one() -> None:
    assert run("events", "--limit", "0").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [("show", "evt_x"), ("replay", "evt_x"), ("replay",), ("replay", "evt_x", "--dead")],
)
def test_what_cannot_be_done_is_said(arguments: tuple[str, ...]) -> None:
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert len(refused.output.strip().splitlines()) >= 1
