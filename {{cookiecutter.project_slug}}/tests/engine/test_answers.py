"""Every answer that a sender can get."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from fastapi import Request
from fastapi.responses import PlainTextResponse
from starlette.types import Message, Scope

from app.database import url
from app.events import Delivery
from app.inbox.table import webhook_events
from app.processing.attempt import attempt
from app.settings import settings
from app.webhooks.endpoint import Endpoint, by_name
from app.webhooks.verifier import Answer
from tests.delivery import Database, Service, running
from tests.engine.conftest import Post
from tests.engine.receiver import HALF_A_CHARACTER, NO_EVENTS
from tests.engine.service import (
    HEADER,
    SECRETS,
    URL,
    SharedSecret,
    application,
    body,
    effects,
    endpoint,
    handle,
    signed,
)
from tests.engine.store import CLOSED_PORT, connect_to, locked, on_postgresql, stored

pytestmark = pytest.mark.anyio

EVENTS = sa.select(webhook_events)


async def test_a_new_event_is_acknowledged_and_stored_byte_for_byte(
    service: Service, database: Database
) -> None:
    payload = json.dumps(json.loads(body(name="Zoë")), indent=7, ensure_ascii=False).encode()
    payload += b" \r\n"

    answer = await service.client.post(URL, content=payload, headers=signed(payload))

    assert (answer.status_code, answer.json()) == (200, {"received": True})
    assert answer.headers["content-type"] == "application/json"
    event = await stored(database)  # by a connection of its own: it is committed
    assert (event.endpoint, event.event_type, event.payload) == ("test", "test.happened", payload)


@pytest.mark.parametrize("state", ["pending", "done", "dead"])
async def test_a_duplicate_is_acknowledged_whatever_became_of_its_event(
    post: Post, database: Database, state: str
) -> None:
    await post(id="evt_1")
    due_at = 0 if state == "pending" else None
    await database.execute(sa.update(webhook_events).values(state=state, due_at=due_at))

    answer = await post(id="evt_1")

    assert (answer.status_code, answer.json()) == (200, {"received": True})
    [event] = await database.rows(EVENTS)
    assert event.state == state


async def test_concurrent_duplicates_are_all_acknowledged_and_handled_once(
    service: Service, post: Post, database: Database
) -> None:
    answers = await asyncio.gather(*(post(id="evt_1") for _ in range(50)))
    for claim in await service.inbox.claim_due(10):
        await attempt(service.inbox, by_name([endpoint()]), claim)

    assert {answer.status_code for answer in answers} == {200}
    assert len(await database.rows(EVENTS)) == 1
    assert len(await database.rows(sa.select(effects))) == 1


async def test_a_verifier_can_have_events_acknowledged_without_a_body(database: Database) -> None:
    class Silent(SharedSecret):
        empty_answer = True

    silent = Endpoint("test", verify=Silent(), handler=handle)
    async with running(application(silent)) as service:
        for _ in ("new", "duplicate"):
            answer = await service.client.post(URL, content=body(), headers=signed(body()))
            assert (answer.status_code, answer.content) == (200, b"")

    assert (await stored(database)).payload == body()


async def test_a_verifier_can_answer_by_itself_and_nothing_is_stored(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    class Asked(SharedSecret):
        async def __call__(self, request: Request) -> Delivery:
            await super().__call__(request)
            raise Answer(PlainTextResponse("hello", 202))

    asked = Endpoint("test", verify=Asked(), handler=handle)
    async with running(application(asked)) as service:
        answer = await service.client.post(URL, content=body(), headers=signed(body()))
        forged = await service.client.post(URL, content=body())

    assert (answer.status_code, answer.text) == (202, "hello")
    assert forged.status_code == 401
    assert await database.rows(EVENTS) == []
    assert [record.getMessage() for record in caplog.records] == ["test: refused with 401: missing"]


@pytest.mark.parametrize("secret", SECRETS.values)
async def test_while_secrets_rotate_each_of_them_is_accepted(service: Service, secret: str) -> None:
    answer = await service.client.post(URL, content=body(), headers=signed(body(), secret))

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {HEADER: ""},
        {HEADER: "nonsense"},
        {HEADER: "é"},
        signed(body(), "the-wrong-one"),
        signed(body(name="of another body")),
    ],
)
async def test_without_a_right_signature_nothing_is_stored(
    service: Service, database: Database, headers: dict[str, str]
) -> None:
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = await service.client.post(URL, content=body(), headers=encoded)

    assert (answer.status_code, answer.json()) == (401, {"detail": "invalid signature"})
    assert await database.rows(EVENTS) == []


@pytest.mark.parametrize("payload", NO_EVENTS.values(), ids=NO_EVENTS)
async def test_an_authentic_body_that_is_no_event_is_a_bad_request(
    service: Service, database: Database, payload: bytes
) -> None:
    answer = await service.client.post(URL, content=payload, headers=signed(payload))

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("invalid event: ")
    assert await database.rows(EVENTS) == []


@pytest.mark.parametrize("payload", NO_EVENTS.values(), ids=NO_EVENTS)
async def test_nothing_is_parsed_before_its_sender_is_verified(
    service: Service, payload: bytes
) -> None:
    headers = signed(payload, "the-wrong-one")

    assert (await service.client.post(URL, content=payload, headers=headers)).status_code == 401


async def test_a_number_will_do_for_an_id(post: Post, database: Database) -> None:
    await post(id=1042)

    assert await stored(database, "1042")


async def test_half_a_character_is_stored_as_it_was_sent(
    service: Service, database: Database
) -> None:
    payload = HALF_A_CHARACTER
    answer = await service.client.post(URL, content=payload, headers=signed(payload))

    assert answer.status_code == 200
    assert (await stored(database)).payload == payload


async def test_a_body_as_large_as_the_limit_is_accepted(post: Post) -> None:
    padding = settings.max_body_bytes - len(body(padding=""))

    assert (await post(padding="x" * padding)).status_code == 200
    assert (await post(padding="x" * (padding + 1))).status_code == 413


async def test_a_body_that_is_declared_too_large_is_not_read(service: Service) -> None:
    async def begin() -> AsyncIterator[bytes]:
        yield b"{"
        pytest.fail("the body was read")

    headers = {"Content-Length": str(settings.max_body_bytes + 1)}
    answer = await service.client.post(URL, content=begin(), headers=headers)

    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


async def test_a_body_of_unknown_length_is_counted_while_it_streams_in(
    service: Service, database: Database
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 10_000
            yield b"x" * 10_000

    answer = await service.client.post(URL, content=endless())

    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert sent <= settings.max_body_bytes + 10_000
    assert await database.rows(EVENTS) == []


async def status_of(service: Service, *messages: Message) -> int:
    """Return the status of a POST whose body arrives in these messages, and then no more."""
    arriving = list(messages)
    statuses: list[int] = []

    async def receive() -> Message:
        if not arriving:
            await asyncio.Event().wait()
        return arriving.pop(0)

    async def send(message: Message) -> None:
        statuses.append(message.get("status", 0))

    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": URL,
        "raw_path": URL.encode(),
        "query_string": b"",
        "headers": [],
        "state": {"inbox": service.inbox},
    }
    await service.app(scope, receive, send)
    return statuses[0]


PART = {"type": "http.request", "body": b"{", "more_body": True}


async def test_a_body_that_does_not_arrive_in_time_is_refused(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "body_timeout_seconds", 0.05)
    async with asyncio.timeout(1):
        assert await status_of(service, PART) == 408


async def test_a_sender_that_leaves_in_the_middle_of_its_body_leaves_nothing(
    service: Service, database: Database
) -> None:
    assert await status_of(service, PART, {"type": "http.disconnect"}) == 400
    assert await database.rows(EVENTS) == []


async def test_a_compressed_body_is_refused_and_the_log_names_the_encoding(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    headers = signed(body()) | {"Content-Encoding": "gzip"}
    answer = await service.client.post(URL, content=body(), headers=headers)

    assert answer.status_code == 415
    assert "Content-Encoding 'gzip'" in caplog.text


async def test_an_encoding_that_changes_nothing_is_accepted(service: Service) -> None:
    headers = signed(body()) | {"Content-Encoding": "Identity"}

    assert (await service.client.post(URL, content=body(), headers=headers)).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "nonsense", ""])
async def test_any_content_type_is_accepted(service: Service, content_type: str) -> None:
    headers = signed(body()) | {"Content-Type": content_type}

    assert (await service.client.post(URL, content=body(), headers=headers)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
async def test_other_methods_are_not_allowed(service: Service, method: str) -> None:
    assert (await service.client.request(method, URL)).status_code == 405


@pytest.mark.parametrize("path", ["/", "/webhooks", "/webhooks/nobody", f"{URL}/"])
async def test_an_unknown_path_is_not_found_and_never_redirected(
    service: Service, path: str
) -> None:
    answer = await service.client.post(path, content=body(), headers=signed(body()))

    assert answer.status_code == 404  # senders take a redirect for a failure


@on_postgresql("a file is never away")
async def test_while_the_database_is_away_the_sender_is_told_to_try_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connect_to(url.set(port=CLOSED_PORT), monkeypatch)

    async with running(application()) as service:
        answer = await service.client.post(URL, content=body(), headers=signed(body()))

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert "connection" in caplog.text


async def test_without_a_commit_in_time_the_sender_is_told_to_try_again_and_it_recovers(
    post: Post, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "ack_deadline_seconds", 0.1)
    with locked(database):
        asked = time.monotonic()

        answer = await post(id="evt_1")

        assert time.monotonic() - asked < 1
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")

    monkeypatch.setattr(settings, "ack_deadline_seconds", 2)
    assert (await post(id="evt_1")).status_code == 200
    assert len(await database.rows(EVENTS)) == 1


async def test_without_its_table_the_sender_is_told_to_try_again_and_it_recovers(
    post: Post, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await database.execute("ALTER TABLE webhook_events RENAME TO webhook_events_lost")
    try:
        answer = await post(id="evt_1")
    finally:
        await database.execute("ALTER TABLE webhook_events_lost RENAME TO webhook_events")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert logging.ERROR in {record.levelno for record in caplog.records}
    assert (await post(id="evt_1")).status_code == 200
    assert len(await database.rows(EVENTS)) == 1
