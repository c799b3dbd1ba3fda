"""`python -m app check`: what is right, what is not, and what to do about it."""

import asyncio
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from app import check
from app.cli import cli
from app.database import url
from app.inbox.inbox import Inbox
from app.inbox.table import webhook_events
from app.settings import Secrets, settings
from app.webhooks.endpoint import Endpoint
from tests.delivery import Database
from tests.engine.service import SharedSecret, delivery, endpoint, handle
from tests.engine.store import CLOSED_PORT, connect_to, on_postgresql, on_sqlite

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def own_endpoints(monkeypatch: pytest.MonkeyPatch, database: Database) -> ModuleType:
    """An endpoint of the tests' own, and no handler of yours."""
    module: Any = ModuleType("app.endpoints")
    module.endpoints = [endpoint()]
    monkeypatch.setitem(sys.modules, "app.endpoints", module)
    monkeypatch.setattr(check, "check_handlers", lambda _: None)
    monkeypatch.setattr("app.processing.queue.broker_problem", no_problem)
    loaded: ModuleType = module
    return loaded


async def no_problem() -> str:
    return ""


async def lines(status: int) -> list[str]:
    """Return what the command prints."""
    result = await asyncio.to_thread(CliRunner().invoke, cli, ["check"])
    assert result.exit_code == status, result.output
    return result.output.splitlines()


async def test_all_is_well() -> None:
    assert await lines(0) == [
        "fine  settings: for development",
        "fine  endpoint test",
        "fine  database: its schema is current",
        "fine  clock",
        "fine  events: none waits for long",
        "fine  broker",
    ]


@pytest.mark.parametrize(
    ("environment", "line"), [("development", "note  endpoint"), ("production", "wrong endpoint")]
)
async def test_a_placeholder_for_a_secret_is_wrong_in_production(
    own_endpoints: Any, monkeypatch: pytest.MonkeyPatch, environment: str, line: str
) -> None:
    monkeypatch.setattr(settings, "environment", environment)
    secrets = Secrets("TEST_SECRET", ("replace_me",), "ask the sender")
    own_endpoints.endpoints = [Endpoint("test", verify=SharedSecret(secrets), handler=handle)]

    found = await lines(int(environment == "production"))

    assert f"{line} test: TEST_SECRET is still a placeholder: ask the sender" in found


async def test_endpoints_that_refuse_the_start_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise SystemExit("app/handlers/x.py: list its handler")

    monkeypatch.setattr(check, "check_handlers", refuse)

    assert "wrong endpoints: app/handlers/x.py: list its handler" in await lines(1)


async def test_an_event_that_nobody_takes_is_told(inbox: Inbox, database: Database) -> None:
    await inbox.add("test", delivery())
    assert "fine  events: none waits for long" in await lines(0)

    old = sa.update(webhook_events).values(received_at=time.time() - 120)
    await database.execute(old)

    [line] = [line for line in await lines(1) if line.startswith("wrong")]
    assert line.startswith("wrong events: one has waited for 12")
    assert line.endswith("are the service and its workers running?")


async def test_clocks_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr("app.check.time.time", lambda: now + 100)

    assert "wrong clock: differs from the database's by 100 s: synchronise both" in await lines(1)


async def test_a_broker_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def problem() -> str:
        return "BROKER_URL: refused: is it running?"

    monkeypatch.setattr("app.processing.queue.broker_problem", problem)

    assert "wrong broker: BROKER_URL: refused: is it running?" in await lines(1)


@on_sqlite("it is about a file")
async def test_in_the_wrong_folder_no_database_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = tmp_path / "inbox.db"
    connect_to(url.set(database=str(missing)), monkeypatch)

    [line] = [line for line in await lines(1) if line.startswith("wrong")]
    assert line.startswith("wrong database: DATABASE_URL names a database without the table of")
    assert not missing.exists()


@on_postgresql("a file is never away")
async def test_a_database_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    connect_to(url.set(port=CLOSED_PORT), monkeypatch)

    [line] = [line for line in await lines(1) if line.startswith("wrong")]
    assert line.startswith("wrong database: the database does not answer: ")
