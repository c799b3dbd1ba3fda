"""Health: what probes are told about a web process, and what the command says."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from typer.testing import CliRunner, Result

from app import health, schema
from app.cli import cli
from app.database import url
from app.health import find_problem, health_router
from app.inbox.engines import create_engine
from app.schema import ENGINE, YOURS, History
from tests.delivery import Database, Service, running
from tests.engine.service import application
from tests.engine.store import CLOSED_PORT, connect_to, on_postgresql, on_sqlite

pytestmark = pytest.mark.anyio

DATABASE_AWAY = {"status": "not ready", "problem": "the database does not answer"}
SCHEMA_OLD = {"status": "not ready", "problem": "the schema is not current"}


@pytest.fixture
async def service(database: Database) -> AsyncIterator[Service]:
    """The service of the tests, with health."""
    app = application()
    app.include_router(health_router())
    async with running(app) as service:
        yield service


@pytest.fixture
def newer_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that knows a revision which the database lacks."""
    known = schema.known_revisions

    def one_more(history: History) -> dict[str, set[str]]:
        revisions = known(history)
        return revisions | ({"9999": {max(revisions)}} if history is ENGINE else {})

    monkeypatch.setattr("app.schema.known_revisions", one_more)


async def answer(client: httpx2.AsyncClient, probe: str) -> tuple[int, Any]:
    response = await client.get(f"/health/{probe}")
    return response.status_code, response.json()


async def command() -> Result:
    return await asyncio.to_thread(CliRunner().invoke, cli, ["health"])


async def test_a_process_that_can_store_webhooks_is_live_and_ready(service: Service) -> None:
    assert await answer(service.client, "live") == (200, {"status": "live"})
    assert await answer(service.client, "ready") == (200, {"status": "ready"})


async def test_the_command_says_so_too(database: Database) -> None:
    result = await command()

    assert (result.exit_code, result.output) == (0, "ready\n")


@pytest.mark.usefixtures("newer_code")
async def test_an_older_schema_is_not_ready(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    assert await answer(service.client, "ready") == (503, SCHEMA_OLD)
    assert (await answer(service.client, "live"))[0] == 200
    assert "not ready: the schema is not current: engine: run python -m app migrate" in caplog.text

    result = await command()
    assert result.exit_code == 1
    assert "the schema is not current: engine: run python -m app migrate" in result.output


async def test_a_schema_newer_by_too_much_is_not_ready(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def applied(connection: sa.Connection, history: History) -> set[str]:
        return {"9999"} if history is ENGINE else set()

    monkeypatch.setattr("app.schema.applied_revisions", applied)

    assert await answer(service.client, "ready") == (503, SCHEMA_OLD)


async def test_a_newer_schema_of_yours_is_ready_and_fills_no_log(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied = schema.applied_revisions

    def newer(connection: sa.Connection, history: History) -> set[str]:
        return {"of-tomorrow"} if history is YOURS else applied(connection, history)

    monkeypatch.setattr("app.schema.applied_revisions", newer)

    assert await answer(service.client, "ready") == (200, {"status": "ready"})
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


@on_postgresql("a file is never away")
async def test_a_server_that_is_away_is_not_ready_and_nobody_learns_where_it_is(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = FastAPI()
    app.include_router(health_router())
    connect_to(url.set(port=CLOSED_PORT), monkeypatch)

    async with app.router.lifespan_context(app) as state:
        ready = await ask(app, state)

    assert (ready.status_code, ready.json()) == (503, DATABASE_AWAY)
    assert str(CLOSED_PORT) not in ready.text


@on_sqlite("it is about files")
async def test_a_file_that_cannot_be_opened_is_a_problem_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect_to(url.set(database="/no/such/folder/inbox.db"), monkeypatch)

    problem = find_problem(create_engine())

    assert problem is not None
    assert problem.what == DATABASE_AWAY["problem"]
    assert "must exist, or be writable" in problem.why


async def test_a_database_that_hangs_is_not_ready_and_only_one_thread_waits_for_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    answered = threading.Event()

    def hang(engine: sa.Engine) -> None:
        nonlocal asked
        asked += 1
        answered.wait(5)

    monkeypatch.setattr(health, "find_problem", hang)
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.01)

    for _ in range(3):
        assert await answer(service.client, "ready") == (503, DATABASE_AWAY)
    assert (await answer(service.client, "live"))[0] == 200
    assert asked == 1

    answered.set()
    monkeypatch.setattr(health, "CHECK_SECONDS", 2)
    assert await answer(service.client, "ready") == (200, {"status": "ready"})


async def test_a_process_that_shuts_down_is_live_and_not_ready(database: Database) -> None:
    app = FastAPI()
    app.include_router(health_router())
    async with app.router.lifespan_context(app) as state:
        assert (await ask(app, state)).status_code == 200

    ready = await ask(app, state)

    assert ready.status_code == 503
    assert ready.json()["problem"] == "the process is shutting down"


async def test_without_a_lifespan_it_is_not_ready() -> None:
    app = FastAPI()
    app.include_router(health_router())

    assert (await ask(app, {})).json()["problem"] == "the lifespan of the router has not run"


async def ask(app: FastAPI, state: Any) -> httpx2.Response:
    """Ask an application that has this state whether it is ready."""

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    transport = httpx2.ASGITransport(with_state)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get("/health/ready")
