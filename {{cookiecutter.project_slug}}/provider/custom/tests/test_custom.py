"""What is signed in the agreed way gets in, and nothing else."""

import base64
import hashlib
import hmac
import json
import time

import pytest
from fastapi.testclient import TestClient

from app.config import load
from app.inbox import Inbox
from app.providers import custom
from app.services import billing
from samples import custom as sender
from tests.payloads import BAD_IDS, HALF_A_CHARACTER, NOT_AN_EVENT, NOT_JSON, body
from tests.support import Store, handle

URL = "/webhooks/custom"
CURRENT, PREVIOUS = custom.secrets
BODIES = NOT_JSON | NOT_AN_EVENT | BAD_IDS


@pytest.fixture(autouse=True)
def agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from the defaults, whatever is configured."""
    fields = custom.CustomSettings.model_fields
    defaults = {name: fields[name].default for name in fields if name.startswith("custom_")}
    agree(monkeypatch, **defaults)


def agree(monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
    """Change what is agreed on with the sender."""
    agreed = custom.settings.model_copy(update=settings)
    monkeypatch.setattr(custom, "settings", agreed)
    monkeypatch.setattr(sender, "settings", agreed)


def mac(payload: bytes, secret: str = CURRENT, algorithm: str = "sha256") -> bytes:
    """Return an HMAC as the sender makes it."""
    return hmac.new(secret.encode(), payload, algorithm).digest()


def post(client: TestClient, payload: bytes, signature: str | bytes | None, **more: str) -> int:
    """Post a payload and return the status of the answer."""
    headers: dict[str, str | bytes] = {**more}
    if signature is not None:
        headers["X-Signature"] = signature
    answer = client.post(URL, content=payload, headers=headers)  # type: ignore[arg-type]
    if answer.status_code == 401:
        assert answer.json() == {"detail": "invalid signature"}
    return answer.status_code


@pytest.mark.parametrize("secret", [CURRENT, PREVIOUS])
def test_each_of_the_secrets_is_accepted(client: TestClient, store: Store, secret: str) -> None:
    assert post(client, body(), mac(body(), secret).hex()) == 200
    assert len(store.rows()) == 1


def test_the_raw_bytes_are_what_counts(client: TestClient, store: Store) -> None:
    spaced = json.dumps(json.loads(body()), indent=8, sort_keys=True).encode() + b"\n"
    assert post(client, spaced, mac(body()).hex()) == 401
    assert store.rows() == []
    assert post(client, spaced, mac(spaced).hex()) == 200
    assert store.rows()[0].payload == spaced


def test_half_a_character_is_kept_as_it_was_sent(client: TestClient, store: Store) -> None:
    assert post(client, HALF_A_CHARACTER, mac(HALF_A_CHARACTER).hex()) == 200
    assert store.rows()[0].payload == HALF_A_CHARACTER


RIGHT = mac(body()).hex()


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        " ",
        "nonsense",
        RIGHT[:-1],
        RIGHT + "0",
        "sha256=" + RIGHT,
        "ä".encode() * 32,
        b"\xff\xfe",
        base64.b64encode(mac(body())).decode(),
        mac(body(), "the-wrong-one").hex(),
        mac(body(), "\0").hex(),
        hmac.new(b"", body(), "sha256").hexdigest(),
        mac(body() + b" ").hex(),
        hashlib.sha256(body()).hexdigest(),
    ],
)
def test_a_signature_that_is_not_right_is_refused(
    client: TestClient, store: Store, signature: str | bytes | None
) -> None:
    assert post(client, body(), signature) == 401
    assert store.rows() == []


def test_signatures_are_compared_in_constant_time(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can time that here: it is enough that `hmac.compare_digest` decides, and no `==`."""
    signatures = (mac(body()).hex(), mac(body(), "the-wrong-one").hex())
    for verdict, status in ((False, 401), (True, 200)):
        monkeypatch.setattr(hmac, "compare_digest", lambda a, b, verdict=verdict: verdict)
        assert {post(client, body(), each) for each in signatures} == {status}


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha=", "v1,"])
def test_algorithm_encoding_and_prefix_are_as_agreed(
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    encoding: str,
    prefix: str,
) -> None:
    agree(
        monkeypatch,
        custom_webhook_algorithm=algorithm,
        custom_webhook_encoding=encoding,
        custom_webhook_prefix=prefix,
    )
    right = mac(body(), algorithm=algorithm)
    text = right.hex() if encoding == "hex" else base64.b64encode(right).decode()
    assert post(client, body(), prefix + text) == 200
    assert post(client, body(), "x" + text) == 401
    if prefix:
        assert post(client, body(), text) == 401


@pytest.mark.parametrize(
    ("age", "status"), [(0, 200), (295, 200), (301, 401), (10**9, 401), (-295, 200), (-305, 401)]
)
def test_with_a_timestamp_a_signature_is_good_for_a_while_before_and_after(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, age: int, status: int
) -> None:
    agree(monkeypatch, custom_webhook_timestamp_header="X-Timestamp")
    stamp = str(int(time.time()) - age)
    signature = mac(stamp.encode() + b"." + body()).hex()
    assert post(client, body(), signature, **{"X-Timestamp": stamp}) == status
    assert post(client, body(), signature, **{"X-Timestamp": str(int(stamp) + 1)}) == 401
    assert post(client, body(), RIGHT, **{"X-Timestamp": stamp}) == 401


@pytest.mark.parametrize("stamp", [None, "", "now", "-1", "1e9", "²", "٣", "9" * 5000])
def test_a_timestamp_that_is_none_is_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, stamp: str | None
) -> None:
    agree(monkeypatch, custom_webhook_timestamp_header="X-Timestamp")
    signature = mac((stamp or "").encode() + b"." + body()).hex()
    headers = {} if stamp is None else {"X-Timestamp": stamp.encode()}
    assert post(client, body(), signature, **headers) == 401  # type: ignore[arg-type]


def test_id_and_type_stand_where_it_was_agreed(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(monkeypatch, custom_webhook_id="header:X-Id", custom_webhook_type="json:meta.kind")
    payload = json.dumps({"meta": {"kind": "thing.happened"}}).encode()
    assert post(client, payload, mac(payload).hex(), **{"X-Id": "42"}) == 200
    assert [(row.event_id, row.type) for row in store.rows()] == [("42", "thing.happened")]
    flat = json.dumps({"meta": "thing.happened"}).encode()
    assert post(client, flat, mac(flat).hex(), **{"X-Id": "43"}) == 400

    sample, headers = sender.deliver({"meta": {"a": 1}}, "44", "thing.sent")
    assert client.post(URL, content=sample, headers=headers).status_code == 200
    assert (store.row("44").type, json.loads(sample)["meta"]["a"]) == ("thing.sent", 1)


def test_a_delivery_has_a_timestamp_where_one_is_agreed_on(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(monkeypatch, custom_webhook_timestamp_header="X-Timestamp")
    sample, headers = sender.deliver({}, "45", "thing.sent")
    assert client.post(URL, content=sample, headers=headers).status_code == 200


def test_without_an_id_the_same_body_is_the_same_event(client: TestClient, store: Store) -> None:
    payload = body(id=None)
    for _ in range(2):
        assert post(client, payload, mac(payload).hex()) == 200
    assert [row.event_id for row in store.rows()] == [hashlib.sha256(payload).hexdigest()]


def test_without_an_id_equal_bodies_of_two_types_are_two_events(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(monkeypatch, custom_webhook_type="header:X-Type")
    payload = body(id=None)
    for type in ("thing.sent", "thing.lost", "thing.sent"):
        assert post(client, payload, mac(payload).hex(), **{"X-Type": type}) == 200
    assert [row.type for row in store.rows()] == ["thing.sent", "thing.lost"]


@pytest.mark.parametrize("place", ["header: X-Id", "header:", "json", "body:id", "X-Id"])
def test_a_place_that_is_none_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("CUSTOM_WEBHOOK_ID", place)
    with pytest.raises(SystemExit, match=r"^CUSTOM_WEBHOOK_ID: "):
        load(custom.CustomSettings)


def test_a_number_may_be_an_id(client: TestClient, store: Store) -> None:
    payload = body(id=12345)
    assert post(client, payload, mac(payload).hex()) == 200
    assert store.rows()[0].event_id == "12345"


@pytest.mark.parametrize("payload", BODIES.values(), ids=BODIES)
def test_nothing_is_read_before_it_is_verified(
    client: TestClient, store: Store, payload: bytes
) -> None:
    assert post(client, payload, "0" * 64) == 401
    assert store.rows() == []


@pytest.mark.parametrize("payload", BODIES.values(), ids=BODIES)
def test_what_is_signed_but_no_event_is_a_bad_request(
    client: TestClient, store: Store, payload: bytes
) -> None:
    assert post(client, payload, mac(payload).hex()) == 400
    assert store.rows() == []


def test_the_reason_of_a_refusal_is_logged_without_what_was_sent(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    for signature in (None, mac(body(), "the-wrong-one").hex()):
        post(client, body(), signature)
    for reason in ("missing", "mismatch"):
        assert reason in caplog.text
    for secret in ("evt_1", CURRENT):
        assert secret not in caplog.text


@pytest.mark.anyio
async def test_the_samples_change_what_they_are_about(inbox: Inbox, store: Store) -> None:
    for type, status, periods in [
        ("subscription.activated", "active", 0),
        ("subscription.extended", "active", 1),
        ("payment.failed", "past_due", 1),
        ("subscription.cancelled", "cancelled", 1),
    ]:
        await handle(inbox, "custom", type)
        [subscription] = store.rows(billing.subscriptions)
        assert (subscription.status, subscription.periods_paid) == (status, periods)
    await handle(inbox, "custom", "order.paid")
    [order] = store.rows(billing.orders)
    assert order.amount > 0
