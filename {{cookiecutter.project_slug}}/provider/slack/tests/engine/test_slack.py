"""What Slack signs is accepted, and nothing else."""

import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa

from app.events import Event
from app.inbox.table import webhook_events
from app.processing.attempt import attempt
from app.samples import add_examples, sample
from app.settings import Secrets, settings
from app.webhooks.endpoint import Endpoint, by_name
from app.webhooks.slack import HEADER, TIMESTAMP_HEADER, TOLERANCE_SECONDS, Slack
from tests.delivery import Database, running
from tests.engine.receiver import HALF_A_CHARACTER, Field, Receiver
from tests.engine.service import application

CURRENT, PREVIOUS = "the-current-one", "the-previous-one"
SECRETS = Secrets("SLACK_WEBHOOK_SECRET", (CURRENT, PREVIOUS), "see the app's page")
URL = "/webhooks/slack"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """An endpoint of Slack, for bodies of any size."""
    monkeypatch.setattr(settings, "max_body_bytes", 1_000_000)
    return Receiver(Slack(SECRETS))


async def handle(event: Event) -> None:
    """Handle nothing."""


def endpoint() -> Endpoint:
    """Return an endpoint with its route."""
    return Endpoint("slack", verify=Slack(SECRETS), handler=handle)


def event(**fields: object) -> bytes:
    """Return an event in its envelope, with some fields set, or left out if they are None."""
    inner = {"type": "app_mention", "text": "Größe?"}
    envelope = {"type": "event_callback", "event_id": "Ev1", "event": inner} | fields
    return json.dumps({key: value for key, value in envelope.items() if value is not None}).encode()


def interaction(**fields: object) -> bytes:
    """Return an interaction, in its form."""
    data = {"type": "block_actions", "trigger_id": "1.2.a", "text": "Größe & 100 % + 1"} | fields
    text = json.dumps({key: value for key, value in data.items() if value is not None})
    return urlencode({"payload": text}).encode()


def command(**fields: str) -> bytes:
    """Return a slash command."""
    data = {"token": "x", "command": "/ship", "text": "a & b + ü", "trigger_id": "1.2.b"} | fields
    return urlencode(data).encode()


def mac(payload: bytes, timestamp: str, secret: str = CURRENT) -> str:
    """Return a signature as Slack makes it."""
    message = b"v0:" + timestamp.encode() + b":" + payload
    return "v0=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def signed(payload: bytes, age: float = 0, secret: str = CURRENT) -> list[Field]:
    """Return the headers of a request that was signed some seconds ago."""
    timestamp = str(int(time.time() - age))
    return [(TIMESTAMP_HEADER, timestamp), (HEADER, mac(payload, timestamp, secret))]


PUBLISHED = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
    b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
    b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
    b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)


def test_the_signature_that_slack_publishes_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """See https://docs.slack.dev/authentication/verifying-requests-from-slack."""
    secrets = Secrets("SLACK_WEBHOOK_SECRET", ("8f742231b10e8888abcd99yyyzzz85a5",), "")
    receiver = Receiver(Slack(secrets))
    published = (HEADER, "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503")
    at = (TIMESTAMP_HEADER, "1531420618")

    assert receiver.status(PUBLISHED, at, published) == 401
    assert receiver.reasons() == ["stale"]
    monkeypatch.setattr("app.webhooks.signatures.time.time", lambda: 1531420618 + 60)
    assert receiver.status(PUBLISHED, at, published) == 200
    assert receiver.status(PUBLISHED + b"&", at, published) == 401

    [delivery] = receiver.deliveries
    assert delivery.type == "/webhook-collect"
    assert delivery.id == "398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    assert delivery.data["text"] == ""


@pytest.mark.parametrize("secret", [CURRENT, PREVIOUS])
def test_while_they_rotate_each_secret_is_accepted(receiver: Receiver, secret: str) -> None:
    payload = event()

    assert receiver.status(payload, *signed(payload, secret=secret)) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type) == ("Ev1", "app_mention")
    assert (delivery.payload, delivery.data) == (payload, json.loads(payload))


def test_an_interaction_has_the_id_of_its_trigger_and_the_data_of_its_form(
    receiver: Receiver,
) -> None:
    payload = interaction()

    assert receiver.status(payload, *signed(payload)) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type, delivery.payload) == ("1.2.a", "block_actions", payload)
    assert delivery.data["text"] == "Größe & 100 % + 1"
    assert Slack(SECRETS).parse(payload) == delivery.data


def test_a_command_has_the_id_of_its_trigger_and_the_fields_of_its_form(
    receiver: Receiver,
) -> None:
    payload = command()

    assert receiver.status(payload, *signed(payload)) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type, delivery.payload) == ("1.2.b", "/ship", payload)
    assert delivery.data["text"] == "a & b + ü"
    assert Slack(SECRETS).parse(payload) == delivery.data


@pytest.mark.parametrize(
    "payload",
    [
        interaction(type="view_closed", trigger_id=None),
        json.dumps({"type": "app_rate_limited", "minute_rate_limited": 1518467820}).encode(),
    ],
    ids=["view_closed", "app_rate_limited"],
)
def test_without_a_trigger_the_id_is_the_same_for_the_same_body(
    receiver: Receiver, payload: bytes
) -> None:
    other = payload + b" " if payload.startswith(b"{") else payload + b"&a=b"
    for sent, age in [(payload, 0), (payload, 60), (other, 0)]:
        assert receiver.status(sent, *signed(sent, age)) == 200

    first, again, different = [delivery.id for delivery in receiver.deliveries]
    assert first == again == hashlib.sha256(payload).hexdigest()
    assert different != first


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "missing"),
        (" ", "missing"),
        (",", "malformed"),
        ("v0", "malformed"),
        ("v0=", "malformed"),
        ("DIGITS", "malformed"),
        ("v1=DIGITS", "malformed"),
        ("V0=DIGITS", "malformed"),
        ("xv0=DIGITS", "malformed"),
        ("v0=DIGITS" + ",v0=x" * 10, "malformed"),
        ("v0=DIGITS0", "mismatch"),
        ("v0=v0=DIGITS", "mismatch"),
        ('v0="DIGITS"', "mismatch"),
        ("v0=nonsense", "mismatch"),
        ("v0=" + "ä" * 64, "mismatch"),
        (b"v0=\xff\xfe", "mismatch"),
        ("v0=" + "x" * 100_000, "mismatch"),
    ],
    ids=range(17),
)
def test_a_malformed_signature_is_refused(
    receiver: Receiver, header: str | bytes, reason: str
) -> None:
    payload = event()
    timestamp = str(int(time.time()))
    sent = header if isinstance(header, bytes) else header.encode()
    sent = sent.replace(b"DIGITS", mac(payload, timestamp).removeprefix("v0=").encode())

    assert receiver.status(payload, (TIMESTAMP_HEADER, timestamp), (HEADER, sent)) == 401
    assert receiver.reasons() == [reason]


@pytest.mark.parametrize(
    ("timestamp", "reason"),
    [
        ("", "missing"),
        (" ", "missing"),
        ("now", "malformed"),
        ("-1", "malformed"),
        ("1793459651.5", "malformed"),
        ("١٧٦", "malformed"),
        ("9" * 5000, "malformed"),
        ("1, 2", "malformed"),
        ("0", "stale"),
        ("9" * 15, "future"),
    ],
)
def test_a_malformed_timestamp_is_refused_though_it_is_signed(
    receiver: Receiver, timestamp: str, reason: str
) -> None:
    payload = event()
    sent = timestamp.encode().decode("latin-1")  # as a server reads it

    headers = [(TIMESTAMP_HEADER, timestamp), (HEADER, mac(payload, sent))]
    assert receiver.status(payload, *headers) == 401
    assert receiver.reasons() == [reason]


def test_two_timestamps_are_refused(receiver: Receiver) -> None:
    payload = event()
    [at, signature] = signed(payload)

    assert receiver.status(payload, at, at, signature) == 401


@pytest.mark.parametrize("left_out", [HEADER, TIMESTAMP_HEADER])
def test_a_request_without_signature_or_timestamp_is_refused(
    receiver: Receiver, left_out: str
) -> None:
    payload = event()
    headers = [field for field in signed(payload) if field[0] != left_out]

    assert receiver.status(payload, *headers) == 401
    assert receiver.reasons() == ["missing"]


@pytest.mark.parametrize("payload", [event(), interaction(), command()], ids=["e", "i", "c"])
@pytest.mark.parametrize("secret", ["the-wrong-one", "", " "])
def test_the_signature_of_another_secret_is_refused(
    receiver: Receiver, payload: bytes, secret: str
) -> None:
    assert receiver.status(payload, *signed(payload, secret=secret)) == 401


def test_without_a_secret_everything_is_refused() -> None:
    payload = event()
    receiver = Receiver(Slack(Secrets("SLACK_WEBHOOK_SECRET", (), "")))

    assert receiver.status(payload, *signed(payload, secret="")) == 401


def test_the_timestamp_is_signed(receiver: Receiver) -> None:
    payload = event()
    [_, signature] = signed(payload, age=60)
    [now, _] = signed(payload)

    assert receiver.status(payload, now, signature) == 401
    assert receiver.reasons() == ["mismatch"]


@pytest.mark.parametrize(
    ("age", "status", "reasons"),
    [
        (TOLERANCE_SECONDS - 5, 200, []),
        (5 - TOLERANCE_SECONDS, 200, []),
        (TOLERANCE_SECONDS + 5, 401, ["stale"]),
        (-TOLERANCE_SECONDS - 5, 401, ["future"]),
    ],
)
def test_a_signature_is_good_for_five_minutes_before_and_after(
    receiver: Receiver, age: int, status: int, reasons: list[str]
) -> None:
    payload = event()

    assert receiver.status(payload, *signed(payload, age)) == status
    assert receiver.reasons() == reasons


NO_EVENTS = {
    "nothing": b"",
    "half an event": event()[:-1],
    "a list": b"[]",
    "null": b"null",
    "NaN": b'{"a": NaN}',
    "not UTF-8": b"\xff",
    "nested too deeply": b'{"a":' * 100_000,
    "no id": event(event_id=None),
    "an empty id": event(event_id=""),
    "an id too long": event(event_id="x" * 256),
    "no type": event(event={}),
    "a list as type": event(event={"type": []}),
    "a line break in the type": event(event={"type": "a\nb"}),
    "neither event nor type": event(event=None, type=None),
    "an empty form": b"payload=",
    "a form cut off": interaction()[:-3],
    "a form with a list": b"payload=%5B%5D",
    "a form that is not UTF-8": b"payload=%22%FF%22",
    "a command that is not UTF-8": b"command=%2F%FF&trigger_id=1",
    "an interaction without a type": interaction(type=None),
    "a trigger that is none": interaction(trigger_id=["1"]),
    "a form without a command": b"text=hello&trigger_id=1",
    "an empty command": command(command=""),
    "NUL in a command": command(command="/\0"),
    "a command too long": command(command="/" + "x" * 255),
    "a challenge that is none": json.dumps({"type": "url_verification"}).encode(),
}


@pytest.mark.parametrize("payload", NO_EVENTS.values(), ids=NO_EVENTS)
def test_what_is_no_event_is_only_told_to_who_has_signed_it(
    receiver: Receiver, payload: bytes
) -> None:
    [at, _] = signed(payload)

    assert receiver.status(payload, at, (HEADER, "v0=" + "0" * 64)) == 401
    assert receiver.status(payload, *signed(payload)) == 400
    assert receiver.notes()[0].startswith("body sha256 ")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/json", "application/x-www-form-urlencoded"]
)
def test_the_content_type_does_not_matter(receiver: Receiver, content_type: str) -> None:
    for payload in (event(), interaction(), command()):
        assert receiver.status(payload, *signed(payload), ("Content-Type", content_type)) == 200

    types = [delivery.type for delivery in receiver.deliveries]
    assert types == ["app_mention", "block_actions", "/ship"]


def test_how_often_slack_has_tried_is_kept_and_no_signature(receiver: Receiver) -> None:
    payload = event()
    retry = [("X-Slack-Retry-Num", "1"), ("X-Slack-Retry-Reason", "http_timeout")]

    receiver.post(payload, *signed(payload), *retry, ("Authorization", "Bearer token"))

    assert receiver.deliveries[0].headers == dict(retry)


def test_the_raw_bytes_are_what_counts(receiver: Receiver) -> None:
    payload = event()
    spaced = json.dumps(json.loads(payload), indent=8).encode() + b"\r\n"
    half = event(event={"type": "message", "text": json.loads(HALF_A_CHARACTER)["name"]})

    assert receiver.status(spaced, *signed(payload)) == 401
    assert receiver.status(spaced, *signed(spaced)) == 200
    assert receiver.status(half, *signed(half)) == 200
    assert [each.payload for each in receiver.deliveries] == [spaced, half]


CHALLENGE = "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"
VERIFICATION = json.dumps({"token": "x", "challenge": CHALLENGE, "type": "url_verification"})


@pytest.mark.anyio
async def test_a_challenge_is_answered_once_it_is_verified_and_not_stored(
    database: Database,
) -> None:
    payload = VERIFICATION.encode()
    async with running(application(endpoint())) as service:
        forged = await service.client.post(URL, content=payload)
        headers = {str(name): str(value) for name, value in signed(payload)}
        answer = await service.client.post(URL, content=payload, headers=headers)

    assert (forged.status_code, CHALLENGE in forged.text) == (401, False)
    assert (answer.status_code, answer.text) == (200, CHALLENGE)
    assert answer.headers["content-type"].startswith("text/plain")
    assert await database.rows(sa.select(webhook_events)) == []


@pytest.mark.anyio
async def test_a_look_at_the_certificate_is_answered_and_not_stored(database: Database) -> None:
    payload = b"ssl_check=1&token=x"
    async with running(application(endpoint())) as service:
        headers = {str(name): str(value) for name, value in signed(payload)}
        answer = await service.client.post(URL, content=payload, headers=headers)

    assert (answer.status_code, answer.content) == (200, b"")
    assert await database.rows(sa.select(webhook_events)) == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        ("app_mention", {"event": {"text": "ä"}}),
        ("block_actions", {"text": "ä"}),
        ("/ship", {"text": "ä"}),
    ],
)
async def test_the_answer_is_empty_and_a_retry_is_the_same_event(
    database: Database, event_type: str, data: dict[str, Any]
) -> None:
    events = []

    async def keep(event: Event) -> None:
        events.append((event.type, event.data))

    one = Endpoint("slack", verify=Slack(SECRETS), handler=keep)
    payload, headers = Slack(SECRETS).sample(data, "Ev2", event_type)
    retry = headers | {"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout"}
    async with running(application(one)) as service:
        for sent in (headers, retry):
            answer = await service.client.post(URL, content=payload, headers=sent)
            assert (answer.status_code, answer.content) == (200, b"")
        for claim in await service.inbox.claim_due(10):
            await attempt(service.inbox, by_name([one]), claim)

    [stored] = await database.rows(sa.select(webhook_events))
    assert (stored.event_id, stored.event_type, stored.payload) == ("Ev2", event_type, payload)
    assert events == [(event_type, Slack(SECRETS).parse(payload))]


@pytest.mark.parametrize("event_type", ["app_mention", "/ship", "block_actions"])
def test_a_sample_is_what_slack_would_send(receiver: Receiver, event_type: str) -> None:
    made = sample(endpoint(), event_type, "evt_2")

    assert receiver.status(made.body, *made.headers.items()) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type) == ("evt_2", event_type)
    is_json = made.body.startswith(b"{")
    assert is_json == (event_type == "app_mention")
    assert made.headers["Content-Type"].endswith("json" if is_json else "form-urlencoded")


def test_the_documentation_shows_a_sample_that_is_json_and_says_that_the_answer_is_empty() -> None:
    one = endpoint()
    app = application(one)
    add_examples(app, [one])

    operation = app.openapi()["paths"][URL]["post"]

    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert example["event"]["type"] == "app_mention"
    assert "no body" in operation["responses"]["200"]["description"]


def test_nothing_of_a_request_is_logged(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")
    payload = event(email="zoe@example.com")

    receiver.post(payload, *signed(payload))
    receiver.post(payload, *signed(payload, secret="the-wrong-one"))

    assert caplog.text == ""
