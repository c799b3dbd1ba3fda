"""What is signed as Standard Webhooks says is accepted, and nothing else."""

import base64
import hashlib
import hmac
import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.settings import Secrets, settings
from app.webhooks.endpoint import Endpoint
from app.webhooks.route import webhook_router
from app.webhooks.standard_webhooks import TOLERANCE_SECONDS, StandardWebhooks
from tests.engine.receiver import HALF_A_CHARACTER, Field, Receiver
from tests.engine.service import handle

CURRENT, PREVIOUS = b"the-current-one-of-24-by", b"the-previous-one-of-24-b"
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BODY = b'{"type": "user.created", "data": {"email": "zoe@example.com"}}'


def encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


PUBLIC_KEY = f"whpk_{encode(PRIVATE.public_key().public_bytes_raw())}"
VALUES = (f"whsec_{encode(CURRENT)}", encode(PREVIOUS), PUBLIC_KEY)


def secrets(*values: str) -> Secrets:
    return Secrets("STANDARD_WEBHOOKS_SECRET", values, "ask the sender")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """An endpoint with two secrets and a public key, for bodies of any size."""
    monkeypatch.setattr(settings, "max_body_bytes", 1_000_000)
    return Receiver(StandardWebhooks(secrets(*VALUES)))


def message(payload: bytes, at: str) -> bytes:
    return f"msg_1.{at}.".encode() + payload


def v1(payload: bytes, at: str, key: bytes = CURRENT) -> str:
    """Return the signature of a secret."""
    return "v1," + encode(hmac.new(key, message(payload, at), hashlib.sha256).digest())


def v1a(payload: bytes, at: str) -> str:
    """Return the signature of the private key."""
    return "v1a," + encode(PRIVATE.sign(message(payload, at)))


def fields(signature: str | bytes, at: str, names: str = "webhook") -> list[Field]:
    return [
        (f"{names}-id", "msg_1"),
        (f"{names}-timestamp", at),
        (f"{names}-signature", signature),
    ]


def signed(payload: bytes, age: int = 0, key: bytes = CURRENT) -> list[Field]:
    """Return the headers of a request that was signed some seconds ago."""
    at = str(int(time.time()) - age)
    return fields(v1(payload, at, key), at)


def test_the_published_example_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the tests of the official libraries. Its body has no type."""
    monkeypatch.setattr(time, "time", lambda: 1614265330.0)
    receiver = Receiver(StandardWebhooks(secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")))
    sent = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ]

    assert receiver.status(b'{"test": 2432232314}', *sent) == 400
    assert receiver.status(b'{"test": 2432232315}', *sent) == 401


@pytest.mark.parametrize("key", [CURRENT, PREVIOUS])
def test_each_secret_is_accepted_with_or_without_its_prefix(receiver: Receiver, key: bytes) -> None:
    assert receiver.status(BODY, *signed(BODY, key=key)) == 200
    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type, delivery.payload) == ("msg_1", "user.created", BODY)


@pytest.mark.parametrize("names", ["webhook", "svix", "Webhook"])
def test_the_headers_may_have_svix_s_names(receiver: Receiver, names: str) -> None:
    at = str(int(time.time()))

    assert receiver.status(BODY, *fields(v1(BODY, at), at, names)) == 200


@pytest.mark.parametrize(
    "signatures",
    [
        "<secret>",
        "<private>",
        " <secret>\t",
        "<private> <secret>",
        "v1,wrong <secret>",
        "v1a,wrong <private>",
        "v1a,%%% <private>",
        "v2,eHh4 <secret>",
        "nonsense <private>",
    ],
)
def test_every_signature_of_a_request_is_tried(receiver: Receiver, signatures: str) -> None:
    at = str(int(time.time()))
    sent = signatures.replace("<private>", v1a(BODY, at)).replace("<secret>", v1(BODY, at))

    assert receiver.status(BODY, *fields(sent, at)) == 200


@pytest.mark.parametrize(
    "signature",
    [
        "",
        " ",
        ",",
        "v1",
        "v1,",
        "v1a,",
        "RIGHT",
        "v1,RIGHT0",
        "v1, ",
        "V1,RIGHT",
        "v1a,RIGHT",
        "v2,RIGHT",
        "v1=RIGHT",
        "v1,%%%",
        "v1a,%%%",
        "v1a,AAA",
        "v1a," + "A" * 88,
        "v1a," + "ä" * 86 + "==",
        "v1," + "ä" * 44,
        b"v1,\xff\xfe",
        b"v1a,\xff\xfe",
        "v1," + "x" * 100_000,
        "v1,x " * 11 + "v1,RIGHT",
    ],
    ids=lambda signature: repr(signature)[:20],
)
def test_a_malformed_signature_is_refused(receiver: Receiver, signature: str | bytes) -> None:
    at = str(int(time.time()))
    right = v1(BODY, at).removeprefix("v1,")
    sent = signature.replace("RIGHT", right) if isinstance(signature, str) else signature

    assert receiver.status(BODY, *fields(sent, at)) == 401


def test_a_private_key_signs_neither_another_body_nor_for_another_public_key(
    receiver: Receiver,
) -> None:
    at = str(int(time.time()))
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    forged = "v1a," + encode(other.sign(message(BODY, at)))

    assert receiver.status(BODY + b" ", *fields(v1a(BODY, at), at)) == 401
    assert receiver.status(BODY, *fields(forged, at)) == 401


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", " "])
def test_a_request_without_one_of_the_headers_is_refused(
    receiver: Receiver, missing: str, value: str | None
) -> None:
    kept = [field for field in signed(BODY) if field[0] != missing]
    blank: list[Field] = [] if value is None else [(missing, value)]

    assert receiver.status(BODY, *kept, *blank) == 401
    assert receiver.reasons() == ["missing"]


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_what_is_signed_may_not_be_there_twice(receiver: Receiver, name: str) -> None:
    sent = signed(BODY)

    assert receiver.status(BODY, *sent, *(field for field in sent if field[0] == name)) == 401


def test_id_and_timestamp_are_signed(receiver: Receiver) -> None:
    for name, value in (("webhook-id", "msg_2"), ("webhook-timestamp", str(int(time.time()) + 9))):
        sent = [(each, value if each == name else old) for each, old in signed(BODY)]
        assert receiver.status(BODY, *sent) == 401


@pytest.mark.parametrize(
    ("age", "status", "reasons"),
    [
        (TOLERANCE_SECONDS - 5, 200, []),
        (5 - TOLERANCE_SECONDS, 200, []),
        (TOLERANCE_SECONDS + 5, 401, ["stale"]),
        (-TOLERANCE_SECONDS - 5, 401, ["future"]),
        (10**10, 401, ["malformed"]),
    ],
)
def test_a_signature_is_good_for_five_minutes_before_and_after(
    receiver: Receiver, age: int, status: int, reasons: list[str]
) -> None:
    assert TOLERANCE_SECONDS == 300
    assert receiver.status(BODY, *signed(BODY, age)) == status
    assert receiver.reasons() == reasons


@pytest.mark.parametrize("at", ["now", "1e9", "1790834412.5", "²", "9" * 5000])
def test_what_is_no_timestamp_is_refused_although_it_is_signed(receiver: Receiver, at: str) -> None:
    assert receiver.status(BODY, *fields(v1(BODY, at), at)) == 401


@pytest.mark.parametrize("values", [(), (PUBLIC_KEY,)])
def test_without_a_secret_nobody_can_sign_with_none(values: tuple[str, ...]) -> None:
    receiver = Receiver(StandardWebhooks(secrets(*values)))

    assert receiver.status(BODY, *signed(BODY, key=b"")) == 401


@pytest.mark.parametrize(
    "value",
    ["whsec_%%%", "whsec_a-b_", "whsec_A", "whpk_AAAA", "whpk_%%%", "ümlaut", "0f1e!"],
)
def test_production_does_not_start_with_a_secret_that_is_not_base64(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setattr(settings, "environment", "production")
    verify = StandardWebhooks(secrets(VALUES[0], value))

    with pytest.raises(SystemExit) as refusal:
        webhook_router([Endpoint("test", verify=verify, handler=handle)])

    line = str(refusal.value)
    assert line.startswith("STANDARD_WEBHOOKS_SECRET has a value that is not whsec_")
    assert "\n" not in line
    assert value not in line


def test_production_starts_with_secrets_of_every_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "environment", "production")
    verify = StandardWebhooks(secrets(*VALUES))

    webhook_router([Endpoint("test", verify=verify, handler=handle)])


def test_production_still_refuses_a_placeholder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "environment", "production")
    verify = StandardWebhooks(secrets("whsec_replace+me"))

    with pytest.raises(SystemExit, match="still a placeholder"):
        webhook_router([Endpoint("test", verify=verify, handler=handle)])


NO_EVENTS = [b"", b"{", b"[]", b"{}", b'{"type": ""}', b'{"type": 1.5}', b"\xff", b"[" * 200_000]


@pytest.mark.parametrize("payload", NO_EVENTS, ids=lambda payload: repr(payload)[:20])
def test_what_is_no_event_is_only_told_to_who_has_signed_it(
    receiver: Receiver, payload: bytes
) -> None:
    assert receiver.status(payload, *signed(BODY)) == 401
    assert receiver.status(payload, *signed(payload)) == 400
    assert receiver.notes()[0].startswith("id msg_1, body sha256 ")


def test_the_raw_bytes_are_what_counts(receiver: Receiver) -> None:
    spaced = json.dumps(json.loads(BODY), indent=8).encode() + b"\r\n"

    assert receiver.status(spaced, *signed(BODY)) == 401
    assert receiver.status(spaced, *signed(spaced)) == 200
    assert receiver.status(HALF_A_CHARACTER, *signed(HALF_A_CHARACTER)) == 200


def test_a_sample_is_what_the_sender_would_send(receiver: Receiver) -> None:
    verifier = StandardWebhooks(secrets(PUBLIC_KEY, *VALUES))
    payload, headers = verifier.sample({"a": "ä"}, "evt_2", "thing.sent")

    assert receiver.status(payload, *headers.items()) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type, delivery.data["a"]) == ("evt_2", "thing.sent", "ä")


def test_nothing_of_a_request_is_logged(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")

    receiver.post(BODY, *signed(BODY))
    receiver.post(BODY, *signed(BODY, age=999))
    receiver.post(BODY, *signed(BODY + b" "))

    assert caplog.text == ""
