"""What Linear signs is accepted, and nothing else."""

import hashlib
import hmac
import json
import time
from typing import Any

import pytest

from app.settings import Secrets
from app.webhooks.linear import (
    DELIVERY_HEADER,
    EVENT_HEADER,
    HEADER,
    TOLERANCE_SECONDS,
    Linear,
)
from tests.engine.receiver import HALF_A_CHARACTER, Field, Receiver

CURRENT, PREVIOUS = "lin_wh_the-current-one", "lin_wh_the-previous-one"
SECRETS = Secrets("LINEAR_WEBHOOK_SECRET", (CURRENT, PREVIOUS), "see the webhook's page")
DELIVERY = (DELIVERY_HEADER, "delivery-1")


@pytest.fixture
def receiver() -> Receiver:
    """An endpoint of Linear."""
    return Receiver(Linear(SECRETS))


def body(age: float = 0, **fields: Any) -> bytes:
    """Return a body that was sent some seconds ago."""
    sent = int((time.time() - age) * 1000)
    event = {"type": "Issue", "action": "create", "webhookTimestamp": sent} | fields
    return json.dumps(event).encode()


def mac(payload: bytes, secret: str = CURRENT) -> str:
    """Return a signature as Linear makes it."""
    return hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()


def signed(payload: bytes, secret: str = CURRENT) -> list[Field]:
    """Return the headers of a request."""
    return [(HEADER, mac(payload, secret)), DELIVERY, (EVENT_HEADER, "Issue")]


@pytest.mark.parametrize("secret", [CURRENT, PREVIOUS])
def test_while_they_rotate_each_secret_is_accepted(receiver: Receiver, secret: str) -> None:
    payload = body()

    assert receiver.status(payload, *signed(payload, secret)) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type, delivery.payload) == ("delivery-1", "Issue.create", payload)
    assert delivery.headers == {DELIVERY_HEADER: "delivery-1", EVENT_HEADER: "Issue"}


def test_digits_may_be_in_upper_case_with_blanks_around(receiver: Receiver) -> None:
    payload = body()

    assert receiver.status(payload, (HEADER, f" {mac(payload).upper()}\t"), DELIVERY) == 200


@pytest.mark.parametrize(
    "signature",
    ["", " ", ",", "RIGHT0", "sha256=RIGHT", "nonsense", "ä" * 64, b"\xff", "x, " * 11 + "RIGHT"],
    ids=repr,
)
def test_a_signature_that_is_not_right_is_refused(
    receiver: Receiver, signature: str | bytes
) -> None:
    payload = body()
    sent = signature.replace("RIGHT", mac(payload)) if isinstance(signature, str) else signature

    assert receiver.status(payload, (HEADER, sent), DELIVERY) == 401


def test_a_request_without_a_signature_is_refused(receiver: Receiver) -> None:
    assert receiver.status(body(), DELIVERY) == 401


@pytest.mark.parametrize("secret", ["the-wrong-one", ""])
def test_the_signature_of_another_secret_is_refused(receiver: Receiver, secret: str) -> None:
    payload = body()

    assert receiver.status(payload, *signed(payload, secret)) == 401


def test_without_a_secret_everything_is_refused() -> None:
    payload = body()
    receiver = Receiver(Linear(Secrets("LINEAR_WEBHOOK_SECRET", (), "")))

    assert receiver.status(payload, *signed(payload, "")) == 401


@pytest.mark.parametrize(
    ("age", "status", "reasons"),
    [
        (TOLERANCE_SECONDS - 5, 200, []),
        (5 - TOLERANCE_SECONDS, 200, []),
        (TOLERANCE_SECONDS + 5, 401, ["stale"]),
        (-TOLERANCE_SECONDS - 5, 401, ["future"]),
    ],
)
def test_a_body_is_good_for_five_minutes_before_and_after(
    receiver: Receiver, age: int, status: int, reasons: list[str]
) -> None:
    payload = body(age)

    assert receiver.status(payload, *signed(payload)) == status
    assert receiver.reasons() == reasons


@pytest.mark.parametrize("at", [None, "now", -1, 1.5, True, [], 10**400], ids=repr)
def test_without_a_usable_timestamp_it_is_refused(receiver: Receiver, at: object) -> None:
    payload = body(webhookTimestamp=at)

    assert receiver.status(payload, *signed(payload)) == 401


NO_EVENTS = {
    "nothing": b"",
    "half": b"{",
    "a list": b"[]",
    "not UTF-8": b"\xff",
    "nested too deeply": b"[" * 100_000,
    "no type": body(type=None),
    "no action": body(action=""),
    "a type too long": body(type="x" * 255),
}


@pytest.mark.parametrize("payload", NO_EVENTS.values(), ids=NO_EVENTS)
def test_what_is_no_event_is_only_told_to_who_has_signed_it(
    receiver: Receiver, payload: bytes
) -> None:
    assert receiver.status(payload, (HEADER, "0" * 64), DELIVERY) == 401
    assert receiver.status(payload, *signed(payload)) == 400
    assert receiver.notes()[0].startswith("id delivery-1, body sha256 ")


def test_without_an_id_it_is_a_bad_request(receiver: Receiver) -> None:
    payload = body()

    assert receiver.status(payload, (HEADER, mac(payload))) == 400


def test_the_raw_bytes_are_what_counts(receiver: Receiver) -> None:
    payload = body()
    spaced = json.dumps(json.loads(payload), indent=8).encode() + b"\r\n"

    assert receiver.status(spaced, *signed(payload)) == 401
    assert receiver.status(spaced, *signed(spaced)) == 200
    assert receiver.deliveries[0].payload == spaced
    assert receiver.status(HALF_A_CHARACTER, *signed(HALF_A_CHARACTER)) == 401  # it has no time


def test_a_sample_is_what_linear_would_send(receiver: Receiver) -> None:
    payload, headers = Linear(SECRETS).sample({"a": "ä"}, "evt_2", "Issue.update")

    assert receiver.status(payload, *headers.items()) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type, delivery.data["a"]) == ("evt_2", "Issue.update", "ä")


def test_nothing_of_a_request_is_logged(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")
    payload = body(email="zoe@example.com")

    receiver.post(payload, *signed(payload))
    receiver.post(payload, *signed(payload, "the-wrong-one"))

    assert caplog.text == ""
