"""Events of the service's own, that follow from another one: `event.then()`."""

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from app.cli import cli
from app.events import Event, RetryAfter
from app.inbox.inbox import Inbox
from app.inbox.table import webhook_events
from app.processing.attempt import attempt
from app.settings import settings
from app.webhooks.endpoint import Endpoint, Handler, by_name
from tests.delivery import Database, running
from tests.engine.service import application, delivery, effects, endpoint
from tests.engine.store import make_due, stored

pytestmark = pytest.mark.anyio

EVENTS = sa.select(webhook_events).order_by(webhook_events.c.id)


async def book(event: Event) -> None:
    """Leave a row behind, and have a mail sent."""
    async with event.transaction() as db:
        await db.execute(effects.insert().values(event_id=event.id))
        await event.then("mail.send", {"to": "Zoë"}, endpoint="mails")


class Mails:
    """An endpoint that receives from this service only, and what it was given."""

    def __init__(self) -> None:
        self.sent: list[Event] = []
        self.failures = 0

    async def handle(self, event: Event) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        self.sent.append(event)


@pytest.fixture
def mails() -> Mails:
    return Mails()


@pytest.fixture
async def one_event(inbox: Inbox) -> None:
    await inbox.add("test", delivery("evt_1"))


async def attempt_all(inbox: Inbox, mails: Mails, handler: Handler = book) -> None:
    """Attempt what is due, until nothing is."""
    endpoints = by_name(
        [endpoint(handler), endpoint(handler, "other"), Endpoint("mails", handler=mails.handle)]
    )
    while claims := await inbox.claim_due(10):
        for claim in claims:
            await attempt(inbox, endpoints, claim)


async def ids(database: Database) -> list[str]:
    return [row.event_id for row in await database.rows(EVENTS)]


@pytest.mark.usefixtures("one_event")
async def test_what_follows_is_handled_by_its_own_endpoint(
    inbox: Inbox, mails: Mails, database: Database
) -> None:
    await attempt_all(inbox, mails)

    [mail] = mails.sent
    assert (mail.endpoint, mail.type, mail.data) == ("mails", "mail.send", {"to": "Zoë"})
    assert mail.id == "test/evt_1/mail.send"
    assert {row.state for row in await database.rows(EVENTS)} == {"done"}


@pytest.mark.usefixtures("one_event")
async def test_what_follows_has_attempts_of_its_own(
    inbox: Inbox, mails: Mails, database: Database
) -> None:
    mails.failures = settings.max_attempts - 1
    for _ in range(settings.max_attempts):
        await attempt_all(inbox, mails)
        await make_due(database)

    assert len(mails.sent) == 1
    assert await database.rows(sa.select(effects)) == [("evt_1",)]
    assert (await stored(database, "evt_1")).attempts == 1


@pytest.mark.usefixtures("one_event")
@pytest.mark.parametrize("error", [ValueError(), RetryAfter(0)])
async def test_nothing_follows_from_what_was_rolled_back(
    inbox: Inbox, mails: Mails, database: Database, error: Exception
) -> None:
    fails = [True, False]

    async def fail_once(event: Event) -> None:
        async with event.transaction():
            await event.then("mail.send", {}, endpoint="mails")
            if fails.pop(0):
                raise error

    [claim] = await inbox.claim_due(1)
    await attempt(inbox, by_name([endpoint(fail_once), endpoint(name="mails")]), claim)
    assert await ids(database) == ["evt_1"]

    await make_due(database)
    await attempt_all(inbox, mails, fail_once)
    assert len(mails.sent) == 1


@pytest.mark.usefixtures("one_event")
async def test_a_replay_does_not_repeat_what_follows(
    inbox: Inbox, mails: Mails, database: Database
) -> None:
    await attempt_all(inbox, mails)
    await asyncio.to_thread(CliRunner().invoke, cli, ["replay", "evt_1"])
    await attempt_all(inbox, mails)

    assert (await stored(database, "evt_1")).attempts == 2
    assert len(mails.sent) == 1


@pytest.mark.usefixtures("one_event")
async def test_several_events_may_follow(inbox: Inbox, mails: Mails, database: Database) -> None:
    async def several(event: Event) -> None:
        if event.id != "evt_1":
            return
        async with event.transaction():
            for number in range(3):
                await event.then("mail.send", number, endpoint="mails")
            await event.then("mail.send", 3, endpoint="mails", key=":2")
            await event.then("mail.send", 4, endpoint="mails", key="2")
            await event.then("mail.send", None)  # to its own endpoint

    await attempt_all(inbox, mails, several)

    assert [mail.data for mail in sorted(mails.sent, key=lambda mail: int(mail.data))] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert await ids(database) == [
        "evt_1",
        "test/evt_1/mail.send",
        "test/evt_1/mail.send/:2",
        "test/evt_1/mail.send/:3",
        "test/evt_1/mail.send/%3A2",
        "test/evt_1/mail.send/2",
        "test/evt_1/mail.send",
    ]


async def test_what_follows_from_different_events_is_different(
    inbox: Inbox, mails: Mails, database: Database
) -> None:
    """Whatever their senders call them."""

    async def follow(event: Event) -> None:
        async with event.transaction():
            key = event.data.get("key", "")
            await event.then(event.data["then"], {}, endpoint="mails", key=key)

    await inbox.add("test", delivery("a", then="b/c"))
    await inbox.add("test", delivery("a-b", then="b", key="c"))
    await inbox.add("other", delivery("a-b/b", then="c"))
    await inbox.add("test", delivery("a-b/b", then="c"))
    await inbox.add("test", delivery("a/b", then="c"))
    await inbox.add("other", delivery("a", then="b/c"))
    for number in range(2):
        await inbox.add("test", delivery("é" * 250 + str(number), then="b"))

    await attempt_all(inbox, mails, follow)

    assert len({mail.id for mail in mails.sent}) == 8
    assert max(len(mail.id) for mail in mails.sent) <= 255


@pytest.mark.usefixtures("one_event")
async def test_the_dispatcher_hears_of_what_follows(inbox: Inbox, mails: Mails) -> None:
    [claim] = await inbox.claim_due(1)
    inbox.wake.clear()

    await attempt(inbox, by_name([endpoint(book), Endpoint("mails", handler=mails.handle)]), claim)

    assert inbox.wake.is_set()


# What cannot be done


async def too_early(event: Event) -> None:
    await event.then("mail.send", {})


async def too_late(event: Event) -> None:
    async with event.transaction():
        pass
    await event.then("mail.send", {})


def follow_up(*arguments: Any, times: int = 1, **options: Any) -> Handler:
    async def handler(event: Event) -> None:
        async with event.transaction():
            for _ in range(times):
                await event.then(*arguments, **options)

    return handler


@pytest.mark.usefixtures("one_event")
@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (too_early, "RuntimeError: event.then() belongs into `async with event.transaction()`"),
        (
            follow_up("mail.send", {}, endpoint="nobody"),
            "LookupError: app/endpoints.py has no endpoint 'nobody' for 'mail.send'",
        ),
        (follow_up("mail.send", date(2026, 1, 1)), "TypeError: Object of type date"),
        (follow_up("mail.send", math.nan), "ValueError: Out of range float values"),
        (follow_up("", {}), "ValueError: event.then(): no type"),
        (follow_up("a\nb", {}), "ValueError: event.then(): type with characters that do not print"),
        (
            follow_up("mail.send", {}, key="k", times=2),
            "ValueError: event.then() was given the key 'k' twice for 'mail.send'",
        ),
    ],
)
async def test_what_cannot_follow_fails_the_attempt_and_says_why(
    inbox: Inbox, database: Database, handler: Handler, problem: str
) -> None:
    [claim] = await inbox.claim_due(1)

    await attempt(inbox, by_name([endpoint(handler)]), claim)

    [row] = await database.rows(EVENTS)
    assert row.state == "pending"
    assert problem in row.error


@pytest.mark.usefixtures("one_event")
async def test_nothing_can_follow_after_the_commit(
    inbox: Inbox, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    [claim] = await inbox.claim_due(1)

    await attempt(inbox, by_name([endpoint(too_late)]), claim)

    assert "RuntimeError after it was done" in caplog.text
    assert await ids(database) == ["evt_1"]


# Endpoints without a verifier


@pytest.fixture
async def client(database: Database, mails: Mails) -> AsyncIterator[Any]:
    app = application(endpoint(), Endpoint("mails", handler=mails.handle))
    async with running(app) as service:
        yield service.client


async def test_an_endpoint_without_a_verifier_receives_from_nobody_else(
    client: Any, database: Database
) -> None:
    answers = [await client.post(f"/webhooks/mails{end}", json={"id": "1"}) for end in ("", "/")]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert await ids(database) == []
