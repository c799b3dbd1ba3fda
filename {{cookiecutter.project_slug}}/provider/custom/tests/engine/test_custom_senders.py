"""The settings that docs/provider.md names for other senders fit what those document.

Requests are made here as each sender's documentation says, and not by the service. The links are
on that page.
"""

import base64
import hmac
import json
import time
from collections.abc import Callable

import pytest

from app.settings import Secrets
from app.webhooks.custom import Custom, CustomSettings
from tests.engine.receiver import Field, Receiver

SETTINGS = {
    "Bitbucket Cloud": {
        "header": "X-Hub-Signature",
        "prefix": "sha256=",
        "id": "sha256",
        "type": "header:X-Event-Key",
    },
    "Cal.com": {"header": "X-Cal-Signature-256", "id": "sha256", "type": "json:triggerEvent"},
    "Calendly": {
        "header": "Calendly-Webhook-Signature",
        "prefix": "v1=",
        "timestamp_header": "Calendly-Webhook-Signature",
        "timestamp_prefix": "t=",
        "id": "sha256",
        "type": "json:event",
    },
    "ClickUp": {"header": "X-Signature", "id": "sha256", "type": "json:event"},
    "Coinbase Commerce": {
        "header": "X-CC-Webhook-Signature",
        "id": "json:event.id",
        "type": "json:event.type",
    },
    "GitLab": {
        "header": "X-Gitlab-Token",
        "algorithm": "token",
        "id": "header:Idempotency-Key",
        "type": "header:X-Gitlab-Event",
    },
    "Intercom": {
        "header": "X-Hub-Signature",
        "prefix": "sha1=",
        "algorithm": "sha1",
        "type": "json:topic",
    },
    "Paddle": {
        "header": "Paddle-Signature",
        "prefix": "h1=",
        "timestamp_header": "Paddle-Signature",
        "timestamp_prefix": "ts=",
        "message": "{timestamp}:{body}",
        "id": "json:event_id",
        "type": "json:event_type",
    },
    "PagerDuty": {
        "header": "X-PagerDuty-Signature",
        "prefix": "v1=",
        "id": "json:event.id",
        "type": "json:event.event_type",
    },
    "Razorpay": {
        "header": "X-Razorpay-Signature",
        "id": "header:X-Razorpay-Event-Id",
        "type": "json:event",
    },
    "Sentry": {
        "header": "Sentry-Hook-Signature",
        "id": "header:Request-ID",
        "type": "header:Sentry-Hook-Resource",
    },
    "Typeform": {
        "header": "Typeform-Signature",
        "prefix": "sha256=",
        "encoding": "base64",
        "id": "json:event_id",
        "type": "json:event_type",
    },
}

# A body of each, and what its event's type and id are. An id of "" is the digest of the body.
BODIES: dict[str, tuple[dict[str, object], str, str]] = {
    "Bitbucket Cloud": ({"push": {"changes": []}}, "repo:push", ""),
    "Cal.com": ({"triggerEvent": "BOOKING_CREATED", "payload": {}}, "BOOKING_CREATED", ""),
    "Calendly": ({"event": "invitee.created", "payload": {}}, "invitee.created", ""),
    "ClickUp": ({"event": "taskCreated", "task_id": "c0j"}, "taskCreated", ""),
    "Coinbase Commerce": (
        {"id": 1, "event": {"id": "24934862", "type": "charge:created", "data": {}}},
        "charge:created",
        "24934862",
    ),
    "GitLab": ({"object_kind": "push"}, "Push Hook", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"),
    "Intercom": (
        {"type": "notification_event", "id": "notif_78c1", "topic": "user.created"},
        "user.created",
        "notif_78c1",
    ),
    "Paddle": (
        {"event_id": "evt_01", "event_type": "transaction.paid", "notification_id": "ntf_01"},
        "transaction.paid",
        "evt_01",
    ),
    "PagerDuty": (
        {"event": {"id": "01BZ", "event_type": "incident.acknowledged", "data": {}}},
        "incident.acknowledged",
        "01BZ",
    ),
    "Razorpay": ({"entity": "event", "event": "payment.captured"}, "payment.captured", "Gb5kMC"),
    "Sentry": ({"action": "created", "data": {}}, "issue", "4ab8b0e6"),
    "Typeform": (
        {"event_id": "LtWXD3crgy", "event_type": "form_response", "form_response": {}},
        "form_response",
        "LtWXD3crgy",
    ),
}

SECRET = "made-up-for-the-tests"


def digest(message: bytes, secret: str = SECRET, algorithm: str = "sha256") -> bytes:
    """Return an HMAC."""
    return hmac.new(secret.encode(), message, algorithm).digest()


def now() -> str:
    """Return the time, in seconds since the epoch."""
    return str(int(time.time()))


def bitbucket(body: bytes, secret: str, at: str) -> list[Field]:
    """sha256=<hex>; the event's key is in a header."""
    signature = f"sha256={digest(body, secret).hex()}"
    return [("X-Hub-Signature", signature), ("X-Event-Key", "repo:push")]


def cal_com(body: bytes, secret: str, at: str) -> list[Field]:
    """Hex."""
    return [("X-Cal-Signature-256", digest(body, secret).hex())]


def calendly(body: bytes, secret: str, at: str) -> list[Field]:
    """t=<time>,v1=<hex of time, dot and body>."""
    signature = digest(at.encode() + b"." + body, secret).hex()
    return [("Calendly-Webhook-Signature", f"t={at},v1={signature}")]


def clickup(body: bytes, secret: str, at: str) -> list[Field]:
    """Hex."""
    return [("X-Signature", digest(body, secret).hex())]


def coinbase(body: bytes, secret: str, at: str) -> list[Field]:
    """Hex."""
    return [("X-CC-Webhook-Signature", digest(body, secret).hex())]


def gitlab(body: bytes, secret: str, at: str) -> list[Field]:
    """The secret itself."""
    key = ("Idempotency-Key", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f")
    return [("X-Gitlab-Token", secret), ("X-Gitlab-Event", "Push Hook"), key]


def intercom(body: bytes, secret: str, at: str) -> list[Field]:
    """sha1=<hex>."""
    return [("X-Hub-Signature", f"sha1={digest(body, secret, 'sha1').hex()}")]


def paddle(body: bytes, secret: str, at: str) -> list[Field]:
    """ts=<time>;h1=<hex of time, colon and body>."""
    signature = digest(at.encode() + b":" + body, secret).hex()
    return [("Paddle-Signature", f"ts={at};h1={signature}")]


def pagerduty(body: bytes, secret: str, at: str) -> list[Field]:
    """v1=<hex>, one for each secret."""
    signatures = [digest(body, each).hex() for each in ("another", secret)]
    return [("X-PagerDuty-Signature", ",".join(f"v1={each}" for each in signatures))]


def razorpay(body: bytes, secret: str, at: str) -> list[Field]:
    """Hex; the event's id is in a header."""
    signature = digest(body, secret).hex()
    return [("X-Razorpay-Signature", signature), ("X-Razorpay-Event-Id", "Gb5kMC")]


def sentry(body: bytes, secret: str, at: str) -> list[Field]:
    """Hex; id and resource are in headers."""
    signature = ("Sentry-Hook-Signature", digest(body, secret).hex())
    return [signature, ("Request-ID", "4ab8b0e6"), ("Sentry-Hook-Resource", "issue")]


def typeform(body: bytes, secret: str, at: str) -> list[Field]:
    """sha256=<base64>."""
    signature = base64.b64encode(digest(body, secret)).decode()
    return [("Typeform-Signature", f"sha256={signature}")]


SIGN: dict[str, Callable[[bytes, str, str], list[Field]]] = {
    "Bitbucket Cloud": bitbucket,
    "Cal.com": cal_com,
    "Calendly": calendly,
    "ClickUp": clickup,
    "Coinbase Commerce": coinbase,
    "GitLab": gitlab,
    "Intercom": intercom,
    "Paddle": paddle,
    "PagerDuty": pagerduty,
    "Razorpay": razorpay,
    "Sentry": sentry,
    "Typeform": typeform,
}
TIMED = ["Calendly", "Paddle"]
every_sender = pytest.mark.parametrize("sender", SETTINGS)


@pytest.fixture(autouse=True)
def nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from the defaults, whatever `.env` says."""
    monkeypatch.setitem(CustomSettings.model_config, "env_file", None)
    for name in CustomSettings.model_fields:
        monkeypatch.delenv(f"CUSTOM_WEBHOOK_{name.upper()}", raising=False)


def verifier(sender: str, secret: str = SECRET) -> Custom:
    """Return a verifier with the settings for a sender."""
    secrets = Secrets("CUSTOM_WEBHOOK_SECRET", (secret,), "")
    return Custom(secrets, CustomSettings.model_validate(SETTINGS[sender]))


def body(sender: str) -> bytes:
    """Return a body as the sender writes it."""
    return json.dumps(BODIES[sender][0]).encode()


def test_every_sender_has_settings_a_body_and_a_signature() -> None:
    assert list(SETTINGS) == list(BODIES) == list(SIGN)


@every_sender
def test_what_the_sender_signs_is_accepted_with_its_id_and_type(sender: str) -> None:
    receiver = Receiver(verifier(sender))
    payload = body(sender)
    _, event_type, event_id = BODIES[sender]

    for _ in ("first", "repeated"):
        assert receiver.status(payload, *SIGN[sender](payload, SECRET, now())) == 200

    first, repeated = receiver.deliveries
    assert first.type == event_type
    assert first.id == repeated.id
    assert first.id == event_id or (event_id == "" and len(first.id) == 64)


@every_sender
def test_another_secret_is_refused(sender: str) -> None:
    receiver = Receiver(verifier(sender))
    payload = body(sender)

    for secret in ("wrong", "", SECRET.upper(), SECRET[:-1], SECRET + "s"):
        assert receiver.status(payload, *SIGN[sender](payload, secret, now())) == 401
    assert receiver.status(payload) == 401


@pytest.mark.parametrize("sender", [sender for sender in SETTINGS if sender != "GitLab"])
def test_another_body_is_refused(sender: str) -> None:
    receiver = Receiver(verifier(sender))
    payload = body(sender)

    assert receiver.status(payload + b" ", *SIGN[sender](payload, SECRET, now())) == 401


@pytest.mark.parametrize("sender", TIMED)
@pytest.mark.parametrize(("age", "reason"), [(310, "stale"), (-310, "future")])
def test_a_signed_time_is_checked(sender: str, age: int, reason: str) -> None:
    receiver = Receiver(verifier(sender))
    payload = body(sender)
    at = str(int(time.time()) - age)

    assert receiver.status(payload, *SIGN[sender](payload, SECRET, at)) == 401
    assert receiver.reasons() == [reason]


@every_sender
def test_a_sample_is_accepted(sender: str) -> None:
    receiver = Receiver(verifier(sender))

    payload, headers = verifier(sender).sample(BODIES[sender][0], "evt_1", "test.happened")

    assert receiver.status(payload, *headers.items()) == 200
    assert receiver.deliveries[0].type == "test.happened"


def test_the_example_that_bitbucket_publishes_is_right() -> None:
    """See https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/."""
    receiver = Receiver(verifier("Bitbucket Cloud", "It's a Secret to Everybody"))
    digits = "a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"

    assert receiver.status(b"Hello World!", ("X-Hub-Signature", f"sha256={digits}")) == 400
    assert receiver.reasons() == ["not JSON"]  # so it was taken for authentic


@pytest.mark.parametrize("token", ["ä", b"\xff\xfe", " ", ",", "x" * 100_000], ids=range(5))
def test_a_malformed_token_is_refused(token: str | bytes) -> None:
    receiver = Receiver(verifier("GitLab"))

    assert receiver.status(b"{}", ("X-Gitlab-Token", token)) == 401


def test_without_a_secret_no_token_is_right() -> None:
    unset = Custom(Secrets("X", (), ""), CustomSettings.model_validate(SETTINGS["GitLab"]))

    for token in ("", "anything"):
        assert Receiver(unset).status(b"{}", ("X-Gitlab-Token", token)) == 401
