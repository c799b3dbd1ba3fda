"""What is signed in the agreed way is accepted, and nothing else."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from pydantic_settings import SettingsConfigDict

from app.settings import Secrets, load, settings
from app.webhooks.custom import Custom, CustomSettings
from tests.engine.receiver import HALF_A_CHARACTER, NO_EVENTS, Field, Receiver, body

CURRENT, PREVIOUS = "the-current-one", "the-previous-one"
SECRETS = Secrets("CUSTOM_WEBHOOK_SECRET", (CURRENT, PREVIOUS), "ask the sender")
HEADER = "X-Signature"
WRONG = "0" * 64


@pytest.fixture(autouse=True)
def nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from the defaults, whatever `.env` says, and accept bodies of any size."""
    monkeypatch.setitem(CustomSettings.model_config, "env_file", None)
    for name in CustomSettings.model_fields:
        monkeypatch.delenv(f"CUSTOM_WEBHOOK_{name.upper()}", raising=False)
    monkeypatch.setattr(settings, "max_body_bytes", 1_000_000)


def agreed(**values: Any) -> Receiver:
    """Return an endpoint for a sender with whom these settings were agreed on."""
    return Receiver(Custom(SECRETS, CustomSettings(**values)))


def mac(message: bytes, secret: str = CURRENT, algorithm: str = "sha256") -> bytes:
    """Return an HMAC as the sender makes it."""
    return hmac.new(secret.encode(), message, algorithm).digest()


def signed(payload: bytes, secret: str = CURRENT) -> Field:
    """Return the header of a request with the default settings."""
    return HEADER, mac(payload, secret).hex()


def timed(payload: bytes, age: int = 0, secret: str = CURRENT) -> list[Field]:
    """Return the headers of a request that was signed some seconds ago."""
    timestamp = str(int(time.time()) - age)
    message = timestamp.encode() + b"." + payload
    return [("X-Timestamp", timestamp), (HEADER, mac(message, secret).hex())]


def test_a_published_example_is_accepted() -> None:
    """See https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries.

    Its body is no JSON: that is only said to whoever has signed it.
    """
    secrets = Secrets("CUSTOM_WEBHOOK_SECRET", ("It's a Secret to Everybody",), "")
    agreed = CustomSettings(header="X-Hub-Signature-256", prefix="sha256=")
    receiver = Receiver(Custom(secrets, agreed))
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    header = ("X-Hub-Signature-256", f"sha256={digest}")

    assert receiver.status(b"Hello, World!", header) == 400
    assert receiver.status(b"Hello, World?", header) == 401


@pytest.mark.parametrize("secret", [CURRENT, PREVIOUS])
def test_while_they_rotate_each_secret_is_accepted(secret: str) -> None:
    assert agreed().status(body(), signed(body(), secret)) == 200


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha=", "v1,"])
def test_algorithm_encoding_and_prefix_are_as_agreed(
    algorithm: str, encoding: str, prefix: str
) -> None:
    receiver = agreed(algorithm=algorithm, encoding=encoding, prefix=prefix)
    right = mac(body(), algorithm=algorithm)
    text = right.hex() if encoding == "hex" else base64.b64encode(right).decode()

    assert receiver.status(body(), (HEADER, prefix + text)) == 200
    assert receiver.status(body(), (HEADER, "x" + prefix + text)) == 401
    assert receiver.status(body(), (HEADER, prefix + text[1:])) == 401
    if prefix:
        assert receiver.status(body(), (HEADER, text)) == 401


@pytest.mark.parametrize(
    "fields",
    [
        [" sha256=RIGHT\t"],
        ["sha256= RIGHT"],
        [f"sha256={WRONG},sha256=RIGHT"],
        [f"sha256={WRONG} sha256=RIGHT"],
        [f"sha256={WRONG}", "sha256=RIGHT"],
        ["sha1=1, sha256=RIGHT"],
    ],
)
def test_every_signature_of_a_request_is_tried(fields: list[str]) -> None:
    sent = [field.replace("RIGHT", mac(body()).hex()) for field in fields]

    assert agreed(prefix="sha256=").status(body(), *((HEADER, field) for field in sent)) == 200


RIGHT = mac(body()).hex()


@pytest.mark.parametrize(
    "signature",
    [
        "",
        " ",
        ",",
        "nonsense",
        RIGHT[:-1],
        RIGHT + "0",
        "sha256=" + RIGHT,
        "ä" * 32,
        b"\xff\xfe",
        "x" * 100_000,
        (RIGHT + ",") * 2000,
        base64.b64encode(mac(body())).decode(),
        mac(body(), "the-wrong-one").hex(),
        mac(body(), "\0").hex(),
        mac(body(), "").hex(),
        mac(body() + b" ").hex(),
        hashlib.sha256(body()).hexdigest(),
    ],
    ids=lambda signature: repr(signature)[:20],
)
def test_a_signature_that_is_not_right_is_refused(signature: str | bytes) -> None:
    assert agreed().status(body(), (HEADER, signature)) == 401


def test_a_request_without_a_signature_is_refused() -> None:
    receiver = agreed()

    assert receiver.status(body()) == 401
    assert receiver.reasons() == ["missing"]


def test_without_a_secret_everything_is_refused() -> None:
    receiver = Receiver(Custom(Secrets("CUSTOM_WEBHOOK_SECRET", (), ""), CustomSettings()))

    assert receiver.status(body(), signed(body(), "")) == 401


@pytest.mark.parametrize(
    ("age", "status", "reasons"),
    [
        (0, 200, []),
        (295, 200, []),
        (-295, 200, []),
        (305, 401, ["stale"]),
        (-305, 401, ["future"]),
        (10**9, 401, ["stale"]),
    ],
)
def test_with_a_timestamp_a_signature_is_good_for_five_minutes_before_and_after(
    age: int, status: int, reasons: list[str]
) -> None:
    receiver = agreed(timestamp_header="X-Timestamp")

    assert receiver.status(body(), *timed(body(), age)) == status
    assert receiver.reasons() == reasons


def test_the_timestamp_is_signed_and_the_tolerance_can_be_chosen() -> None:
    receiver = agreed(timestamp_header="X-Timestamp", tolerance_seconds=10)
    [(name, timestamp), signature] = timed(body())

    assert receiver.status(body(), (name, f"{timestamp!s}0"), signature) == 401
    assert receiver.status(body(), (name, timestamp), signed(body())) == 401
    assert receiver.status(body(), signature) == 401
    assert receiver.status(body(), *timed(body(), age=5)) == 200
    assert receiver.status(body(), *timed(body(), age=15)) == 401


@pytest.mark.parametrize("timestamp", ["", " ", "now", "-1", "1e9", "²", "٣", "9" * 5000])
def test_what_is_no_timestamp_is_refused(timestamp: str) -> None:
    receiver = agreed(timestamp_header="X-Timestamp")
    message = timestamp.encode() + b"." + body()

    fields = [("X-Timestamp", timestamp), (HEADER, mac(message).hex())]
    assert receiver.status(body(), *fields) == 401


@pytest.mark.parametrize("payload", NO_EVENTS.values(), ids=NO_EVENTS)
def test_nothing_is_parsed_before_it_is_verified(payload: bytes) -> None:
    receiver = agreed()

    assert receiver.status(payload, (HEADER, WRONG)) == 401
    assert receiver.reasons() == ["mismatch"]


@pytest.mark.parametrize("payload", NO_EVENTS.values(), ids=NO_EVENTS)
def test_what_is_authentic_but_no_event_is_a_bad_request(payload: bytes) -> None:
    receiver = agreed()

    assert receiver.status(payload, signed(payload)) == 400
    assert "body sha256 " in receiver.notes()[0]


def test_a_refused_event_can_be_found_at_its_sender() -> None:
    payload = body(type=None, email="zoe@example.com")
    for place, field in (("json:id", ("X-Id", "")), ("header:X-Id", ("X-Id", "evt_1"))):
        receiver = agreed(id=place)
        receiver.post(payload, signed(payload), field)

        digest = hashlib.sha256(payload).hexdigest()
        assert receiver.notes() == [f"id evt_1, body sha256 {digest}"]


def test_id_and_type_are_where_it_was_agreed() -> None:
    receiver = agreed(id="header:X-Id", type="json:meta.kind")
    nested = json.dumps({"meta": {"kind": "thing.happened"}}).encode()
    flat = json.dumps({"meta": "thing.happened"}).encode()

    assert receiver.status(nested, signed(nested), ("X-Id", " 42\t")) == 200
    assert receiver.status(nested, signed(nested)) == 400
    assert receiver.status(flat, signed(flat), ("X-Id", "43")) == 400
    assert [(each.id, each.type) for each in receiver.deliveries] == [("42", "thing.happened")]


def test_a_number_may_be_an_id() -> None:
    receiver = agreed()
    payload = body(id=12345)

    assert receiver.status(payload, signed(payload)) == 200
    assert receiver.deliveries[0].id == "12345"


def test_where_there_are_no_ids_the_same_body_of_the_same_type_is_the_same_event() -> None:
    receiver = agreed(id="sha256", type="header:X-Type")
    payload = body(id=None)

    for event_type in ("thing.sent", "thing.lost", "thing.sent"):
        assert receiver.status(payload, signed(payload), ("X-Type", event_type)) == 200

    sent, lost, sent_again = (each.id for each in receiver.deliveries)
    assert sent == sent_again != lost


def test_the_raw_bytes_are_what_counts() -> None:
    receiver = agreed()
    spaced = json.dumps(json.loads(body()), indent=8).encode() + b"\r\n"

    assert receiver.status(spaced, signed(body())) == 401
    assert receiver.status(spaced, signed(spaced)) == 200
    assert receiver.status(HALF_A_CHARACTER, signed(HALF_A_CHARACTER)) == 200
    assert [each.payload for each in receiver.deliveries] == [spaced, HALF_A_CHARACTER]


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=x", "?"])
def test_the_content_type_does_not_matter(content_type: str) -> None:
    assert agreed().status(body(), signed(body()), ("Content-Type", content_type)) == 200


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEADER", "X-Signature:"),
        ("HEADER", "X Signature"),
        ("HEADER", "X-Signatur\u00e9"),
        ("TIMESTAMP_HEADER", "X-Timestamp:"),
        ("ALGORITHM", "md5"),
        ("ENCODING", "base32"),
        ("TOLERANCE_SECONDS", "0"),
        ("MESSAGE", "{body}"),
        ("MESSAGE", "{timestamp}"),
        ("MESSAGE", "{timestamp}.{body}.{body}"),
        ("ID", "header: X-Id"),
        ("ID", "header:"),
        ("ID", "json"),
        ("ID", "X-Id"),
        ("TYPE", "body:type"),
        ("TYPE", "sha256"),
    ],
)
def test_a_setting_that_cannot_work_refuses_the_start(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"CUSTOM_WEBHOOK_{variable}", value)

    with pytest.raises(SystemExit, match=rf"^CUSTOM_WEBHOOK_{variable}: [^\n]+$"):
        load(CustomSettings)


def test_a_token_beside_a_signed_time_refuses_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOM_WEBHOOK_ALGORITHM", "token")
    monkeypatch.setenv("CUSTOM_WEBHOOK_TIMESTAMP_HEADER", "X-Timestamp")

    with pytest.raises(
        SystemExit, match=r"^CUSTOM_WEBHOOK_TIMESTAMP_HEADER: a token signs no time"
    ):
        load(CustomSettings)


@pytest.mark.parametrize(
    "message", ["{timestamp}{body}", "v0:{timestamp}:{body}", "{body}|{timestamp}"]
)
def test_the_signed_message_is_as_agreed(message: str) -> None:
    receiver = agreed(timestamp_header="X-Timestamp", message=message)
    at = str(int(time.time()))
    signed_text = message.replace("{timestamp}", at).replace("{body}", body().decode())

    assert (
        receiver.status(body(), ("X-Timestamp", at), (HEADER, mac(signed_text.encode()).hex()))
        == 200
    )
    assert receiver.status(body(), *timed(body())) == 401


def test_a_time_that_looks_like_a_body_stays_a_time() -> None:
    receiver = agreed(timestamp_header="X-Timestamp")
    message = b"{body}." + body()

    headers = [("X-Timestamp", "{body}"), (HEADER, mac(message).hex())]
    assert receiver.status(body(), *headers) == 401
    assert receiver.reasons() == ["malformed"]  # so the signature was right


def test_a_second_sender_has_settings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class PartnerSettings(CustomSettings):
        model_config = SettingsConfigDict(env_prefix="PARTNER_WEBHOOK_")

    monkeypatch.setenv("CUSTOM_WEBHOOK_HEADER", "X-One")
    monkeypatch.setenv("PARTNER_WEBHOOK_HEADER", "X-Two")

    assert load(CustomSettings).header == "X-One"
    assert load(PartnerSettings).header == "X-Two"
    assert load(PartnerSettings).prefix == ""


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"timestamp_header": "X-Timestamp", "encoding": "base64", "prefix": "v1,"},
        {"id": "header:X-Id", "type": "json:meta.kind"},
        {"id": "json:meta.id", "type": "header:X-Type"},
    ],
)
def test_a_sample_is_what_the_sender_would_send(values: dict[str, str]) -> None:
    verifier = Custom(SECRETS, CustomSettings(**values))  # type: ignore[arg-type]
    data = {"name": "Zoë", "meta": {"a": 1}}
    receiver = Receiver(verifier)

    payload, headers = verifier.sample(data, "evt_2", "thing.sent")

    assert receiver.status(payload, *headers.items()) == 200
    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type) == ("evt_2", "thing.sent")
    assert (delivery.data["name"], delivery.data["meta"]["a"]) == ("Zoë", 1)
    assert data == {"name": "Zoë", "meta": {"a": 1}}


def test_nothing_of_a_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "app")
    receiver = agreed()

    receiver.post(body(), signed(body()))
    receiver.post(body(), signed(body(), "the-wrong-one"))
    receiver.post(b"{}", signed(b"{}"))

    assert caplog.text == ""
