"""Logs: they say what happened to which event, and hold nothing that is secret or personal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from app.events import Event
from app.inbox.inbox import Inbox
from app.logs import FORMAT, configure_logging
from app.processing.attempt import attempt
from app.settings import settings
from app.webhooks.endpoint import Handler, by_name
from tests.delivery import Database, Service
from tests.engine.conftest import Post, Try
from tests.engine.service import (
    HEADER,
    SECRETS,
    URL,
    SharedSecret,
    application,
    body,
    delivery,
    endpoint,
    handle,
    signed,
)

pytestmark = pytest.mark.anyio

PERSONAL = {"name": "Jenny Rosen", "email": "jenny@example.com", "card": "4242424242424242"}
HEADERS = {
    "Authorization": "Bearer the-bearer-token",
    "Cookie": "session=the-session",
    "User-Agent": "the-agent",
    "X-Real-IP": "203.0.113.77",
}
PAYLOAD = body(**PERSONAL)
PRIVATE = [*PERSONAL.values(), *HEADERS.values(), *SECRETS.values, *signed(PAYLOAD).values()]
PRIVATE += ["the-bearer-token", "the-session", signed(PAYLOAD, "the-wrong-one")[HEADER]]


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Log at every level."""
    caplog.set_level(logging.DEBUG)


def leaks(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the private values in a line of the log, its traceback included."""
    lines = [logging.Formatter(FORMAT).format(record) for record in caplog.records]
    return [value for value in PRIVATE if any(value in line for line in lines)]


REFUSED = {
    "unsigned": (PAYLOAD, {}),
    "wrongly signed": (PAYLOAD, signed(PAYLOAD, "the-wrong-one")),
    "not JSON": (PAYLOAD[:-1], signed(PAYLOAD[:-1])),
    "without an id": (body(id=None, **PERSONAL), signed(body(id=None, **PERSONAL))),
    "with a wrong type": (body(type=PERSONAL, **PERSONAL), {}),
    "compressed": (PAYLOAD, signed(PAYLOAD) | {"Content-Encoding": "gzip"}),
    "too large": (PAYLOAD + b" " * 500_000, signed(PAYLOAD)),
}


@pytest.mark.parametrize(("payload", "headers"), REFUSED.values(), ids=REFUSED)
async def test_a_refusal_is_logged_without_anything_of_the_request(
    service: Service,
    caplog: pytest.LogCaptureFixture,
    payload: bytes,
    headers: dict[str, str],
) -> None:
    answer = await service.client.post(URL, content=payload, headers=HEADERS | headers)

    assert f"test: refused with {answer.status_code}: " in caplog.text
    assert leaks(caplog) == []


async def test_an_acknowledgement_logs_nothing_of_the_request(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        answer = await service.client.post(URL, content=PAYLOAD, headers=HEADERS | signed(PAYLOAD))

    assert answer.status_code == 200
    assert leaks(caplog) == []


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"type": "another.type"}, "a duplicate of another type"),
        ({"data": {"of": "another order"}}, "a duplicate with another body"),
    ],
)
async def test_a_duplicate_that_differs_is_a_warning(
    post: Post, caplog: pytest.LogCaptureFixture, second: dict[str, object], words: str
) -> None:
    """The sender's id may be that of an order, say, and events of one order would be lost."""
    await post(id="evt_1", **PERSONAL)
    await post(id="evt_1", **PERSONAL, **second)

    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage() == f"test evt_1: {words}"
    assert leaks(caplog) == []


async def test_a_duplicate_that_is_the_same_is_no_warning(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        await post(id="evt_1")

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_bodies_that_may_vary_are_no_warning(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(SharedSecret, "body_may_vary", True)
    await post(id="evt_1", data={"pending_webhooks": 2})
    await post(id="evt_1", data={"pending_webhooks": 1})

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_verifier_that_needs_care_is_a_warning_at_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    monkeypatch.setattr(SharedSecret, "warning", "keep it off the internet")
    application()

    assert "/webhooks/test: keep it off the internet" in caplog.text


async def quote(event: Event) -> None:
    raise ValueError(f"cannot handle {event.payload!r} of {event!r}")


async def quote_in_a_cause(event: Event) -> None:
    try:
        raise KeyError(event.data["email"])
    except KeyError as error:
        raise RuntimeError(event.data["name"]) from error


async def quote_in_a_statement(event: Event) -> None:
    async with event.transaction() as db:
        await db.execute(sa.text("INSERT INTO nowhere VALUES (:name)"), event.data)


async def quote_after_the_commit(event: Event) -> None:
    await handle(event)
    raise ValueError(event.data["card"])


@pytest.mark.parametrize(
    "handler", [handle, quote, quote_in_a_cause, quote_in_a_statement, quote_after_the_commit]
)
async def test_an_attempt_is_logged_without_what_the_handler_quotes(
    inbox: Inbox, try_with: Try, caplog: pytest.LogCaptureFixture, handler: Handler
) -> None:
    await inbox.add("test", delivery("evt_1", **PERSONAL))

    for _ in range(settings.max_attempts):
        if (await try_with(handler)).state != "pending":
            break

    assert leaks(caplog) == []


async def test_a_failure_that_cannot_be_recorded_is_logged_without_it(
    inbox: Inbox, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(event: Event) -> None:
        await database.execute("ALTER TABLE webhook_events RENAME TO lost")
        raise ValueError(event.payload)

    await inbox.add("test", delivery("evt_1", **PERSONAL))
    [claim] = await inbox.claim_due(1)
    await attempt(inbox, by_name([endpoint(fail)]), claim)
    await database.execute("ALTER TABLE lost RENAME TO webhook_events")

    assert "the database did not commit" in caplog.text
    assert leaks(caplog) == []


async def test_an_event_that_cannot_be_stored_is_logged_without_it(
    post: Post, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await database.execute("CREATE UNIQUE INDEX of_your_own ON webhook_events (event_type)")
    try:
        await post(id="evt_1", **PERSONAL)
        answer = await post(id="evt_2", **PERSONAL)
    finally:
        await database.execute("DROP INDEX of_your_own")

    assert answer.status_code == 503
    assert "test evt_2: not acknowledged" in caplog.text
    assert leaks(caplog) == []


def test_neither_a_delivery_nor_an_event_shows_what_is_in_it() -> None:
    sent = delivery("evt_1", **PERSONAL)

    assert [value for value in PRIVATE if value in repr(sent)] == []


@contextmanager
def no_logging() -> Iterator[logging.Logger]:
    """Take the handlers of the root logger away."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    try:
        yield root
    finally:
        root.handlers, root.level = handlers, level


def test_each_line_has_time_level_and_logger(capsys: pytest.CaptureFixture[str]) -> None:
    with no_logging():
        configure_logging()
        logging.getLogger("app.webhooks").warning("something happened")

    line = capsys.readouterr().err
    assert line.endswith(" WARNING app.webhooks: something happened\n")
    assert line[:4].isdecimal()


def test_logging_that_somebody_has_set_up_stays() -> None:
    with no_logging() as root:
        own = logging.NullHandler()
        root.addHandler(own)
        configure_logging()
        assert root.handlers == [own]
