"""Every answer that a sender can get."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from app import providers, queue
from app.config import settings
from app.events import Event
from app.inbox import Inbox
from app.main import app
from app.relay import relay
from app.webhooks import REFUSALS, refuse
from tests.support import FIXTURES, NAME, URL, Refusals, Store, delivery


@pytest.mark.parametrize("type", FIXTURES)
def test_a_new_event_is_acknowledged_and_kept_byte_for_byte(
    client: TestClient, store: Store, type: str
) -> None:
    sent = delivery(type)

    answer = sent.post(client)

    assert (answer.status_code, answer.json()) == (200, {"received": True})
    assert answer.headers["content-type"] == "application/json"
    [row] = store.rows()
    assert (row.provider, row.event_id, row.type, row.payload) == (NAME, sent.id, type, sent.body)


def test_a_duplicate_is_acknowledged_and_kept_once(client: TestClient, store: Store) -> None:
    sent = delivery()

    answers = [sent.post(client) for _ in range(3)]

    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (200, {"received": True})
    ] * 3
    assert len(store.rows()) == 1


@pytest.mark.anyio
async def test_concurrent_duplicates_are_all_acknowledged_and_kept_once(
    inbox: Inbox, store: Store
) -> None:
    app.state.inbox = inbox
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        sent = delivery()
        answers = await asyncio.gather(
            *(client.post(URL, content=sent.body, headers=sent.headers) for _ in range(50))
        )

    assert {answer.status_code for answer in answers} == {200}
    assert len(store.rows()) == 1


def test_an_acknowledgement_comes_after_the_commit(client: TestClient, store: Store) -> None:
    """At the moment of the answer another connection sees the event."""
    for _ in range(5):
        sent = delivery()
        assert sent.post(client).status_code == 200
        assert store.row(sent.id).payload == sent.body


def test_other_methods_are_not_allowed(client: TestClient) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE", "HEAD"):
        assert client.request(method, URL).status_code == 405


@pytest.mark.parametrize("path", ["/", "/webhooks", "/webhooks/nobody", URL + "/"])
def test_an_unknown_path_is_not_found_and_never_redirected(client: TestClient, path: str) -> None:
    sent = delivery()

    assert client.post(path, content=sent.body, headers=sent.headers).status_code == 404


def test_a_body_declared_too_large_is_refused_and_told(
    client: TestClient, store: Store, refusals: Refusals, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.post(URL, content=b"x" * (settings.max_body_bytes + 1))

    assert answer.status_code == 413
    assert store.rows() == []
    assert refusals == [HTTPStatus(413).phrase]
    assert f"with 413: {HTTPStatus(413).phrase}" in caplog.text


@pytest.mark.anyio
async def test_a_body_is_counted_while_it_streams_in(inbox: Inbox, store: Store) -> None:
    sent_bytes = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent_bytes
        for _ in range(1000):
            sent_bytes += 10_000
            yield b"x" * 10_000

    app.state.inbox = inbox
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post(URL, content=endless())

    assert answer.status_code == 413
    assert sent_bytes < 3 * settings.max_body_bytes
    assert store.rows() == []


async def status_of(*messages: dict[str, object]) -> int:
    """Return the status of a POST whose body arrives in these ASGI messages, and then no more."""
    waiting = list(messages)
    statuses: list[int] = []

    async def receive() -> dict[str, object]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: dict[str, object]) -> None:
        if isinstance(status := message.get("status"), int):
            statuses.append(status)

    scope = {
        "type": "http",
        "method": "POST",
        "path": URL,
        "raw_path": URL.encode(),
        "query_string": b"",
        "headers": [],
        "state": {},
    }
    await app(scope, receive, send)  # type: ignore[arg-type]
    return statuses[0]


@pytest.mark.anyio
async def test_a_body_that_does_not_arrive_in_time_is_refused(inbox: Inbox, store: Store) -> None:
    app.state.inbox = inbox
    begun = {"type": "http.request", "body": b"{", "more_body": True}

    assert await status_of(begun) == 408
    assert store.rows() == []


@pytest.mark.anyio
async def test_a_sender_that_leaves_mid_body_leaves_nothing(inbox: Inbox, store: Store) -> None:
    app.state.inbox = inbox
    begun = {"type": "http.request", "body": b"{", "more_body": True}

    assert await status_of(begun, {"type": "http.disconnect"}) == 400
    assert store.rows() == []


def test_without_its_table_it_asks_to_try_again_and_recovers(
    client: TestClient, store: Store
) -> None:
    sent = delivery()
    store.change("ALTER TABLE inbox RENAME TO inbox_lost")
    try:
        answer = sent.post(client)
    finally:
        store.change("ALTER TABLE inbox_lost RENAME TO inbox")

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert sent.post(client).status_code == 200
    assert len(store.rows()) == 1


def test_without_a_commit_in_time_it_asks_to_try_again_and_recovers(
    client: TestClient, store: Store
) -> None:
    sent = delivery()
    with store.engine.begin() as blocking:
        blocking.execute(sa.text("DELETE FROM inbox"))
        if blocking.dialect.name == "postgresql":
            blocking.execute(sa.text("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE"))
        begun = time.monotonic()
        answer = sent.post(client)
        assert time.monotonic() - begun < settings.ack_deadline_seconds + 1
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0

    assert sent.post(client).status_code == 200
    assert len(store.rows()) == 1


@pytest.mark.anyio
async def test_without_its_broker_it_acknowledges_as_ever(
    inbox: Inbox, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes connections and never answers is worse than one that refuses them."""
    handing_over = asyncio.Event()

    async def hang(inbox: Inbox) -> int:
        handing_over.set()
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(queue, "enqueue", hang)
    relaying = asyncio.create_task(relay(inbox, asyncio.Event()))
    await handing_over.wait()
    app.state.inbox = inbox
    transport = httpx2.ASGITransport(app)
    sent = delivery()
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
        asyncio.timeout(settings.ack_deadline_seconds),
    ):
        answer = await client.post(URL, content=sent.body, headers=sent.headers)
    relaying.cancel()

    assert answer.status_code == 200
    assert store.row(sent.id).state == "pending"


def test_the_documented_example_can_be_tried_out(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"][URL]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    headers = {each["name"]: each["example"] for each in operation.get("parameters", [])}
    as_shown = json.dumps(example, indent=2, ensure_ascii=False).encode()
    answer = client.post(URL, content=as_shown, headers=headers)

    assert answer.status_code == 200
    refusals = {"400", "401"} if headers else {"422"}
    assert set(operation["responses"]) == {"200", "408", "413", "503"} | refusals
    assert "swagger" in client.get("/docs").text


def test_verification_is_a_dependency_that_any_route_can_have() -> None:
    other = FastAPI(exception_handlers=dict.fromkeys(REFUSALS, refuse))

    @other.post(URL)
    async def show(event: Annotated[Event, Depends(providers.load()[NAME].verify)]) -> list[str]:
        return [event.provider, event.id]

    client, sent = TestClient(other), delivery()
    assert sent.post(client).json() == [NAME, sent.id]
    assert client.post(URL, content=b"{}").status_code in (401, 422)
