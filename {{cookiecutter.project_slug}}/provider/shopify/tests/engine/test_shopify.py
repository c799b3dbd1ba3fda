"""What Shopify signs is accepted, and nothing else."""

import base64
import hashlib
import hmac
import json

import pytest

from app.settings import Secrets, settings
from app.webhooks.shopify import (
    DELIVERY_HEADER,
    EVENT_HEADER,
    HEADER,
    SHOP_HEADER,
    TOPIC_HEADER,
    VERSION_HEADER,
    Shopify,
)
from tests.engine.receiver import HALF_A_CHARACTER, Field, Receiver

CURRENT, PREVIOUS = "shpss_the-current-one", "shpss_the-previous-one"
SECRETS = Secrets("SHOPIFY_WEBHOOK_SECRET", (CURRENT, PREVIOUS), "see the dashboard")
BODY = b'{"id": 820982911946154508, "email": "zoe@example.com"}'
TOPIC = (TOPIC_HEADER, "orders/paid")
DELIVERY = (DELIVERY_HEADER, "delivery-1")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """An endpoint of Shopify, for bodies of any size."""
    monkeypatch.setattr(settings, "max_body_bytes", 1_000_000)
    return Receiver(Shopify(SECRETS))


def mac(payload: bytes, secret: str = CURRENT) -> str:
    """Return a signature as Shopify makes it."""
    return base64.b64encode(hmac.new(secret.encode(), payload, hashlib.sha256).digest()).decode()


def signed(payload: bytes, secret: str = CURRENT) -> list[Field]:
    """Return the headers of a request."""
    return [(HEADER, mac(payload, secret)), TOPIC, DELIVERY]


RIGHT = mac(BODY)


@pytest.mark.parametrize("secret", [CURRENT, PREVIOUS])
def test_while_they_rotate_each_secret_is_accepted(receiver: Receiver, secret: str) -> None:
    assert receiver.status(BODY, *signed(BODY, secret)) == 200


@pytest.mark.parametrize("fields", [[f" {RIGHT}\t"], ["wrong", RIGHT], [f"wrong,{RIGHT}"]])
def test_every_signature_of_a_request_is_tried(receiver: Receiver, fields: list[str]) -> None:
    sent = [(HEADER, field) for field in fields]

    assert receiver.status(BODY, *sent, TOPIC, DELIVERY) == 200


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        ("", "missing"),
        (" ", "missing"),
        (",", "malformed"),
        ((RIGHT[:-2] + "x,") * 11, "malformed"),
        (RIGHT[:-1], "mismatch"),
        (RIGHT + "=", "mismatch"),
        (RIGHT.swapcase(), "mismatch"),
        (hmac.new(CURRENT.encode(), BODY, hashlib.sha256).hexdigest(), "mismatch"),
        (mac(BODY, "the-wrong-one"), "mismatch"),
        (mac(BODY, ""), "mismatch"),
        (mac(BODY + b" "), "mismatch"),
        ("%%%", "mismatch"),
        ("ä" * 44, "mismatch"),
        (b"\xff\xfe", "mismatch"),
        ("x" * 100_000, "mismatch"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_signature_that_is_not_right_is_refused(
    receiver: Receiver, signature: str | bytes, reason: str
) -> None:
    assert receiver.status(BODY, (HEADER, signature), TOPIC, DELIVERY) == 401
    assert receiver.reasons() == [reason]


def test_a_request_without_a_signature_is_refused(receiver: Receiver) -> None:
    assert receiver.status(BODY, TOPIC, DELIVERY) == 401
    assert receiver.reasons() == ["missing"]


def test_without_a_secret_everything_is_refused() -> None:
    receiver = Receiver(Shopify(Secrets("SHOPIFY_WEBHOOK_SECRET", (), "")))

    assert receiver.status(BODY, *signed(BODY, "")) == 401


def test_what_headers_say_of_the_event_is_kept_and_nothing_else(receiver: Receiver) -> None:
    kept = {
        TOPIC_HEADER: "orders/paid",
        SHOP_HEADER: "a.myshopify.com",
        VERSION_HEADER: "2026-10",
        EVENT_HEADER: "event-1",
        DELIVERY_HEADER: "delivery-1",
    }
    others = [("Authorization", "Bearer x"), ("Cookie", "a=b")]

    assert receiver.status(BODY, (HEADER, RIGHT), *others, *kept.items()) == 200

    [delivery] = receiver.deliveries
    assert (delivery.type, delivery.payload, delivery.headers) == ("orders/paid", BODY, kept)


def test_deliveries_of_one_event_under_one_topic_are_the_same_event(receiver: Receiver) -> None:
    for topic, delivery in (("orders/paid", "1"), ("orders/paid", "2"), ("orders/create", "3")):
        fields = [(TOPIC_HEADER, topic), (EVENT_HEADER, "event-1"), (DELIVERY_HEADER, delivery)]
        assert receiver.status(BODY, (HEADER, RIGHT), *fields) == 200

    first, second, of_another_topic = (each.id for each in receiver.deliveries)
    assert first == second == "event-1:orders/paid"
    assert of_another_topic == "event-1:orders/create"


@pytest.mark.parametrize("event_id", [[], [(EVENT_HEADER, " ")]])
def test_without_an_event_id_the_delivery_s_id_counts(
    receiver: Receiver, event_id: list[Field]
) -> None:
    assert receiver.status(BODY, *signed(BODY), *event_id) == 200
    assert receiver.deliveries[0].id == "delivery-1"


@pytest.mark.parametrize(
    "fields",
    [
        [TOPIC],
        [DELIVERY],
        [TOPIC, (DELIVERY_HEADER, "")],
        [(TOPIC_HEADER, " "), DELIVERY],
        [(TOPIC_HEADER, "x" * 256), DELIVERY],
        [TOPIC, (DELIVERY_HEADER, b"\x80")],
    ],
)
def test_without_a_usable_id_or_topic_it_is_a_bad_request(
    receiver: Receiver, fields: list[Field]
) -> None:
    assert receiver.status(BODY, (HEADER, RIGHT), *fields) == 400


NO_OBJECTS = [b"", b"{", b"[]", b"null", b"NaN", b"\xff", b"[" * 200_000, b"9" * 5000]


@pytest.mark.parametrize("payload", NO_OBJECTS, ids=lambda payload: repr(payload)[:20])
def test_what_is_no_object_is_only_told_to_who_has_signed_it(
    receiver: Receiver, payload: bytes
) -> None:
    assert receiver.status(payload, (HEADER, RIGHT), TOPIC, DELIVERY) == 401
    assert receiver.status(payload, *signed(payload)) == 400
    assert receiver.notes()[0].startswith("id delivery-1, body sha256 ")


def test_the_raw_bytes_are_what_counts(receiver: Receiver) -> None:
    spaced = json.dumps(json.loads(BODY), indent=8).encode() + b"\r\n"

    assert receiver.status(spaced, *signed(BODY)) == 401
    assert receiver.status(spaced, *signed(spaced)) == 200
    assert receiver.status(HALF_A_CHARACTER, *signed(HALF_A_CHARACTER)) == 200
    assert [each.payload for each in receiver.deliveries] == [spaced, HALF_A_CHARACTER]


def test_a_sample_is_what_shopify_would_send(receiver: Receiver) -> None:
    payload, headers = Shopify(SECRETS).sample({"a": "ä"}, "evt_2", "orders/paid")

    assert receiver.status(payload, *headers.items()) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type, delivery.data) == ("evt_2", "orders/paid", {"a": "ä"})


def test_nothing_of_a_request_is_logged(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")

    receiver.post(BODY, *signed(BODY))
    receiver.post(BODY, *signed(BODY, "the-wrong-one"))
    receiver.post(b"[]", *signed(b"[]"))

    assert caplog.text == ""
