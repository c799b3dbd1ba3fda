"""What Stripe signs is accepted, and nothing else."""

import json
import time

import pytest

from app.settings import Secrets, settings
from app.webhooks.signatures import sign
from app.webhooks.stripe import HEADER, TOLERANCE_SECONDS, Stripe
from tests.engine.receiver import HALF_A_CHARACTER, NO_EVENTS, Receiver, body

CURRENT, PREVIOUS = "whsec_the-current-one", "whsec_the-previous-one"
SECRETS = Secrets("STRIPE_WEBHOOK_SECRET", (CURRENT, PREVIOUS), "see the dashboard")
WRONG = "0" * 64


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """An endpoint of Stripe, for bodies of any size."""
    monkeypatch.setattr(settings, "max_body_bytes", 1_000_000)
    return Receiver(Stripe(SECRETS))


def digits(payload: bytes, timestamp: str, secret: str = CURRENT) -> str:
    """Return the signature of a body at a time."""
    return sign(timestamp.encode() + b"." + payload, secret.encode())


def signed(payload: bytes, secret: str = CURRENT, age: int = 0) -> tuple[str, str]:
    """Return the header of a request that was signed some seconds ago."""
    timestamp = str(int(time.time()) - age)
    return HEADER, f"t={timestamp},v1={digits(payload, timestamp, secret)}"


def test_a_signature_that_stripes_own_library_made_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By `WebhookSignature.generate_signature_header` of stripe 16.1."""
    monkeypatch.setattr(time, "time", lambda: 1790834412.0)
    receiver = Receiver(Stripe(Secrets("STRIPE_WEBHOOK_SECRET", ("whsec_dGVzdA",), "")))
    payload = '{"id": "evt_1", "type": "invoice.paid", "name": "Zoë"}'.encode()
    digest = "deb70c8e3a89d038e793bf91756e7c89fca39c58013420a2fa6f29590f6a3924"

    assert receiver.status(payload, (HEADER, f"t=1790834412,v1={digest}")) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type, delivery.payload) == ("evt_1", "invoice.paid", payload)
    assert delivery.data["name"] == "Zoë"


@pytest.mark.parametrize("secret", [CURRENT, PREVIOUS])
def test_while_they_rotate_each_secret_is_accepted(receiver: Receiver, secret: str) -> None:
    assert receiver.status(body(), signed(body(), secret)) == 200


@pytest.mark.parametrize(
    "fields",
    [
        [f"t=NOW,v1=RIGHT,v1={WRONG}"],
        [f"t=NOW,v1={WRONG},v1=RIGHT"],
        ["t=NOW,v0=1,v1=RIGHT"],
        ["v1=RIGHT,t=NOW"],
        [" t=NOW, v1=RIGHT\t"],
        ["t=NOW v1=RIGHT"],
        ["t= NOW,v1= RIGHT"],
        [f"t=NOW,v1={WRONG}", "t=NOW,v1=RIGHT"],
        [f"t=1,v1={WRONG}", "t=NOW,v1=RIGHT"],
    ],
)
def test_every_signature_of_a_request_is_tried(receiver: Receiver, fields: list[str]) -> None:
    now = str(int(time.time()))
    right = digits(body(), now)
    sent = [field.replace("NOW", now).replace("RIGHT", right) for field in fields]

    assert receiver.status(body(), *((HEADER, field) for field in sent)) == 200


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "missing"),
        (" ", "missing"),
        (",", "malformed"),
        ("=", "malformed"),
        ("t", "malformed"),
        ("t=,v1=", "malformed"),
        ("RIGHT", "malformed"),
        ("t=NOW", "malformed"),
        ("v1=RIGHT", "malformed"),
        ("t=NOW,v0=RIGHT", "malformed"),
        ("t=NOW,v1=RIGHT" + ",v1=x" * 10, "malformed"),
        ("t=NOW,v1=RIGHT0", "mismatch"),
        ("t=NOW0,v1=RIGHT", "mismatch"),
        ("t=-NOW,v1=RIGHT", "mismatch"),
        ("t=" + "9" * 5000 + ",v1=RIGHT", "mismatch"),
        ("t=NOW,v1=" + "ä" * 64, "mismatch"),
        (b"t=NOW,v1=\xff\xfe", "mismatch"),
        (b"t=\xb2,v1=\x80", "mismatch"),
        ("t=NOW,v1=" + "x" * 100_000, "mismatch"),
    ],
)
def test_a_malformed_header_is_refused(
    receiver: Receiver, header: str | bytes, reason: str
) -> None:
    now = str(int(time.time()))
    sent = header if isinstance(header, bytes) else header.encode()
    sent = sent.replace(b"NOW", now.encode()).replace(b"RIGHT", digits(body(), now).encode())

    assert receiver.status(body(), (HEADER, sent)) == 401
    assert receiver.reasons() == [reason]


def test_a_request_without_the_header_is_refused(receiver: Receiver) -> None:
    assert receiver.status(body()) == 401
    assert receiver.reasons() == ["missing"]


@pytest.mark.parametrize("secret", ["the-wrong-one", "", " "])
def test_the_signature_of_another_secret_is_refused(receiver: Receiver, secret: str) -> None:
    assert receiver.status(body(), signed(body(), secret)) == 401
    assert receiver.reasons() == ["mismatch"]


def test_without_a_secret_everything_is_refused() -> None:
    receiver = Receiver(Stripe(Secrets("STRIPE_WEBHOOK_SECRET", (), "")))

    assert receiver.status(body(), signed(body(), "")) == 401


@pytest.mark.parametrize(
    ("age", "status", "reasons"),
    [
        (TOLERANCE_SECONDS - 5, 200, []),
        (5 - TOLERANCE_SECONDS, 200, []),
        (TOLERANCE_SECONDS + 5, 401, ["stale"]),
        (-TOLERANCE_SECONDS - 5, 401, ["future"]),
        (10**9, 401, ["stale"]),
        (-(10**9), 401, ["future"]),
        pytest.param(-(10**400), 401, ["malformed"], id="401 digits"),
        pytest.param(10**10, 401, ["malformed"], id="negative"),
    ],
)
def test_a_signature_is_good_for_five_minutes_before_and_after(
    receiver: Receiver, age: int, status: int, reasons: list[str]
) -> None:
    assert TOLERANCE_SECONDS == 300
    assert receiver.status(body(), signed(body(), age=age)) == status
    assert receiver.reasons() == reasons


def test_the_tolerance_can_be_chosen() -> None:
    receiver = Receiver(Stripe(SECRETS, tolerance=10))

    assert receiver.status(body(), signed(body(), age=5)) == 200
    assert receiver.status(body(), signed(body(), age=15)) == 401


@pytest.mark.parametrize("payload", NO_EVENTS.values(), ids=NO_EVENTS)
def test_nothing_is_parsed_before_it_is_verified(receiver: Receiver, payload: bytes) -> None:
    now = int(time.time())

    assert receiver.status(payload, (HEADER, f"t={now},v1={WRONG}")) == 401
    assert receiver.reasons() == ["mismatch"]


@pytest.mark.parametrize("payload", NO_EVENTS.values(), ids=NO_EVENTS)
def test_what_is_authentic_but_no_event_is_a_bad_request(
    receiver: Receiver, payload: bytes
) -> None:
    assert receiver.status(payload, signed(payload)) == 400
    assert "body sha256 " in receiver.notes()[0]


def test_a_refused_event_can_be_found_at_stripe(receiver: Receiver) -> None:
    payload = b'{"id": "evt_1SxGpR5T7", "email": "zoe@example.com", "n": NaN}'

    receiver.post(payload, signed(payload))

    [note] = receiver.notes()
    assert note.startswith("id evt_1SxGpR5T7, body sha256 ")
    assert "zoe" not in note


def test_the_raw_bytes_are_what_counts(receiver: Receiver) -> None:
    spaced = json.dumps(json.loads(body()), indent=8).encode() + b"\r\n"

    assert receiver.status(spaced, signed(body())) == 401
    assert receiver.status(spaced, signed(spaced)) == 200
    assert receiver.status(HALF_A_CHARACTER, signed(HALF_A_CHARACTER)) == 200
    assert [each.payload for each in receiver.deliveries] == [spaced, HALF_A_CHARACTER]


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=x", "?"])
def test_the_content_type_does_not_matter(receiver: Receiver, content_type: str) -> None:
    assert receiver.status(body(), signed(body()), ("Content-Type", content_type)) == 200


@pytest.mark.parametrize(
    ("environment", "allowed", "livemode", "status"),
    [
        ("production", "", True, 200),
        ("production", "", False, 400),
        ("production", "false", False, 400),
        ("production", "true", False, 200),
        ("development", "", False, 200),
    ],
)
def test_test_events_are_refused_in_production_unless_allowed(
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    allowed: str,
    livemode: bool,
    status: int,
) -> None:
    monkeypatch.setattr(settings, "environment", environment)
    monkeypatch.setenv("STRIPE_ALLOW_TEST_EVENTS", allowed)
    receiver = Receiver(Stripe(SECRETS))
    payload = body(livemode=livemode)

    assert receiver.status(payload, signed(payload)) == status


def test_one_endpoint_can_accept_test_events_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "environment", "production")
    payload = body(livemode=False)

    receiver = Receiver(Stripe(SECRETS, allow_test_events=True))
    assert receiver.status(payload, signed(payload)) == 200

    receiver = Receiver(Stripe(SECRETS, allow_test_events=False))
    assert receiver.status(payload, signed(payload)) == 400
    assert "STRIPE_ALLOW_TEST_EVENTS" in receiver.reasons()[0]


def test_a_sample_is_what_stripe_would_send(receiver: Receiver) -> None:
    payload, headers = Stripe(SECRETS).sample({"a": "ä"}, "evt_2", "thing.sent")

    assert receiver.status(payload, *headers.items()) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type, delivery.data["a"]) == ("evt_2", "thing.sent", "ä")


def test_nothing_of_a_request_is_logged(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")
    payload = body(email="zoe@example.com")

    for header in (signed(payload), signed(payload, "the-wrong-one"), signed(payload, age=999)):
        receiver.post(payload, header)

    assert caplog.text == ""
