"""What the fixtures of `tests/conftest.py` are made of."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import sqlalchemy as sa
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.database import metadata
from app.inbox.inbox import Claim, Inbox
from app.inbox.table import webhook_events
from app.processing.attempt import attempt
from app.processing.queue import Queue
from app.samples import sample, sample_files
from app.webhooks.endpoint import Endpoint, by_name


class HandlerFailed(AssertionError):
    """The handler of a delivered event failed: the message is its traceback."""


class Database:
    """The database of a test."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    async def rows(self, query: sa.Executable) -> list[Any]:
        """Return the rows of a query."""
        return await asyncio.to_thread(self._run, query)

    async def execute(self, statement: sa.Executable | str) -> None:
        """Carry out a statement."""
        await asyncio.to_thread(self._run, statement)

    def empty(self) -> None:
        """Delete all rows."""
        with self.engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(sa.delete(table))

    def _run(self, statement: sa.Executable | str) -> list[Any]:
        executable = sa.text(statement) if isinstance(statement, str) else statement
        with self.engine.begin() as connection:
            result = connection.execute(executable)
            return list(result) if result.returns_rows else []


@dataclass(frozen=True)
class Deliver:
    """Delivers samples to a running application, and handles them."""

    service: "Service"
    endpoints: Sequence[Endpoint]
    database: Database

    async def __call__(
        self, event_type: str, *, endpoint: str = "", event_id: str = "", **changes: Any
    ) -> str:
        """Deliver one sample, handle it and its follow-ups, and return the event's id.

        Raises:
            HandlerFailed: a handler failed.
        """
        receiver = self._find(event_type, endpoint)
        sent = sample(receiver, event_type, event_id, **changes)
        path = self.service.app.url_path_for(receiver.name)
        answer = await self.service.client.post(path, content=sent.body, headers=sent.headers)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"

        claims = await self._handle_due()
        while await self._handle_due():  # its follow-ups
            pass
        # The verifier may have changed the id. A duplicate is not claimed.
        return claims[-1].event_id if claims else sent.event_id

    def _find(self, event_type: str, name: str) -> Endpoint:
        for endpoint in self.endpoints:
            if name in ("", endpoint.name) and event_type in sample_files(endpoint):
                return endpoint
        raise LookupError(f"no endpoint {name} has a sample {event_type}: see tests/fixtures")

    async def _handle_due(self) -> list[Claim]:
        inbox = self.service.inbox
        claims = await inbox.claim_due(limit=100)
        for claim in claims:
            await attempt(inbox, by_name(self.endpoints), claim)
            await self._check(claim)
        return claims

    async def _check(self, claim: Claim) -> None:
        query = sa.select(webhook_events).where(webhook_events.c.id == claim.id)
        [event] = await self.database.rows(query)
        if event.state != "done":
            raise HandlerFailed(event.error or "see the log")


class NoQueue(Queue):
    """Dispatches nothing, so that a test decides when to attempt which event."""

    def __init__(self, *_: object) -> None:
        """Connect to nothing."""

    async def dispatch(self) -> int:
        """Dispatch nothing."""
        return 0

    async def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Service:
    """An application that runs in this process."""

    app: FastAPI
    client: httpx2.AsyncClient
    inbox: Inbox


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[Service]:
    """Run an application in this process, queue and all."""
    async with app.router.lifespan_context(app) as state:
        assert state is not None

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        transport = httpx2.ASGITransport(with_state)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield Service(app, client, state["inbox"])
