"""What Stripe signs gets in, and nothing else."""

import hashlib
import hmac
import json
import time

import pytest
from fastapi.testclient import TestClient
from stripe import WebhookSignature

from app.inbox import Inbox
from app.providers.stripe import HEADER, TOLERANCE, secrets
from app.services import billing
from samples.stripe import sign
from tests.payloads import BAD_IDS, HALF_A_CHARACTER, NOT_AN_EVENT, NOT_JSON, body
from tests.support import Store, handle

URL = "/webhooks/stripe"
CURRENT, PREVIOUS = secrets


def post(client: TestClient, payload: bytes, signature: str | bytes | None) -> int:
    """Post a payload and return the status of the answer."""
    headers = {} if signature is None else {HEADER: signature}
    answer = client.post(URL, content=payload, headers=headers)  # type: ignore[arg-type]
    if answer.status_code == 401:
        assert answer.json() == {"detail": "invalid signature"}
    return answer.status_code


@pytest.mark.parametrize("secret", [CURRENT, PREVIOUS])
def test_each_of_the_secrets_is_accepted(client: TestClient, store: Store, secret: str) -> None:
    assert post(client, body(), sign(body(), secret)) == 200
    assert len(store.rows()) == 1


def test_one_right_signature_among_several_is_enough(client: TestClient) -> None:
    """Stripe signs with both secrets while they rotate."""
    time, right = sign(body(), CURRENT).split(",")
    for signatures in (f"{right},v1={'0' * 64}", f"v1={'0' * 64},{right}", f"v0=1,{right}"):
        assert post(client, body(), f"{time},{signatures}") == 200


def test_the_raw_bytes_are_what_counts(client: TestClient, store: Store) -> None:
    """The same JSON in other bytes is another body; the same bytes in any form are right."""
    spaced = json.dumps(json.loads(body()), indent=8, sort_keys=True).encode() + b"\n"
    assert post(client, spaced, sign(body(), CURRENT)) == 401
    assert store.rows() == []
    assert post(client, spaced, sign(spaced, CURRENT)) == 200
    assert store.rows()[0].payload == spaced


def test_half_a_character_is_kept_as_it_was_sent(client: TestClient, store: Store) -> None:
    assert post(client, HALF_A_CHARACTER, sign(HALF_A_CHARACTER, CURRENT)) == 200
    assert store.rows()[0].payload == HALF_A_CHARACTER


BODIES = NOT_JSON | NOT_AN_EVENT | BAD_IDS | {"no id": body(id=None)}
RIGHT = sign(body(), CURRENT)
DIGITS = RIGHT.partition("v1=")[2]


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        " ",
        ",",
        "=",
        "t",
        "t=,v1=",
        "nonsense",
        RIGHT.partition(",")[0],
        RIGHT.partition(",")[2],
        RIGHT[:-1],
        RIGHT + "0",
        RIGHT.replace("v1=", "v0="),
        RIGHT.replace("t=", "t=1"),
        RIGHT.replace("t=", "t=-"),
        RIGHT.replace("t=", "t=x"),
        RIGHT.replace("t=", "t=" + "9" * 5000),
        RIGHT.replace(DIGITS, "ä" * 64).encode(),
        RIGHT.replace(DIGITS, "é" * 64).encode("latin-1"),
        b"t=\xff\xfe,v1=\x80",
        "t=1,v1=" + "f" * 64,
        sign(body(), "the-wrong-one"),
        sign(body(), ""),
        sign(body() + b" ", CURRENT),
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
    signatures = (sign(body(), CURRENT), sign(body(), "the-wrong-one"))
    for verdict, status in ((False, 401), (True, 200)):
        monkeypatch.setattr(hmac, "compare_digest", lambda a, b, verdict=verdict: verdict)
        assert {post(client, body(), each) for each in signatures} == {status}


@pytest.mark.parametrize(
    ("age", "status"),
    [
        (0, 200),
        (TOLERANCE - 5, 200),
        (TOLERANCE + 1, 401),
        (10**9, 401),
        (5 - TOLERANCE, 200),
        (-TOLERANCE - 5, 401),
        (-(10**9), 401),
        pytest.param(-(10**400), 401, id="a time of 400 digits"),
    ],
)
def test_a_signature_is_good_for_five_minutes_before_and_after(
    client: TestClient, age: int, status: int
) -> None:
    assert TOLERANCE == 300
    assert post(client, body(), sign(body(), CURRENT, int(time.time()) - age)) == status


def test_the_reason_of_a_refusal_is_logged_without_what_was_sent(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    stale = sign(body(), CURRENT, 1)
    for signature in (None, stale, sign(body(), "the-wrong-one")):
        post(client, body(), signature)
    for reason in ("missing", "stale", "mismatch"):
        assert reason in caplog.text
    for secret in ("evt_1", CURRENT, stale):
        assert secret not in caplog.text


@pytest.mark.parametrize("payload", BODIES.values(), ids=BODIES)
def test_nothing_is_read_before_it_is_verified(
    client: TestClient, store: Store, payload: bytes
) -> None:
    assert post(client, payload, f"t={int(time.time())},v1={'0' * 64}") == 401
    assert store.rows() == []


@pytest.mark.parametrize("payload", BODIES.values(), ids=BODIES)
def test_what_is_signed_but_no_event_is_a_bad_request(
    client: TestClient, store: Store, payload: bytes
) -> None:
    stamp = str(int(time.time())).encode()
    mac = hmac.new(CURRENT.encode(), stamp + b"." + payload, hashlib.sha256).hexdigest()
    status = post(client, payload, f"t={stamp.decode()},v1={mac}")
    # The SDK verifies text, so what is not UTF-8 was never signed by Stripe.
    assert status == (401 if b"\xff" in payload else 400)
    assert store.rows() == []


def test_it_is_the_signature_of_the_sdk() -> None:
    header = sign(body(), CURRENT)
    assert WebhookSignature.verify_header(body(), header, CURRENT, TOLERANCE)


@pytest.mark.anyio
async def test_the_samples_change_what_they_are_about(inbox: Inbox, store: Store) -> None:
    for type, status, periods in [
        ("checkout.session.completed", "active", 0),
        ("invoice.paid", "active", 1),
        ("invoice.payment_failed", "past_due", 1),
        ("customer.subscription.deleted", "cancelled", 1),
    ]:
        await handle(inbox, "stripe", type)
        [subscription] = store.rows(billing.subscriptions)
        assert (subscription.status, subscription.periods_paid) == (status, periods)
    await handle(inbox, "stripe", "payment_intent.succeeded")
    assert subscription.id.startswith("sub_")
    assert subscription.customer.startswith("cus_")
    assert subscription.paid_until > 1_700_000_000
    [order] = store.rows(billing.orders)
    assert (order.id, order.amount, order.currency) == ("order_1042", 12950, "eur")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("type", "changes"),
    [
        ("payment_intent.succeeded", {"metadata": {}}),
        ("checkout.session.completed", {"subscription": None}),
        ("invoice.paid", {"parent": None}),
        ("invoice.paid", {"parent": {"subscription_details": None}}),
        ("invoice.payment_failed", {"parent": None}),
    ],
)
async def test_what_is_about_something_else_changes_nothing(
    inbox: Inbox, store: Store, type: str, changes: dict[str, object]
) -> None:
    await handle(inbox, "stripe", type, **changes)
    assert ([row.state for row in store.rows()], store.effects()) == (["done"], 0)


@pytest.mark.anyio
async def test_a_subscription_that_is_paid_after_its_end_has_ended(
    inbox: Inbox, store: Store
) -> None:
    for type in ("customer.subscription.deleted", "invoice.paid", "checkout.session.completed"):
        await handle(inbox, "stripe", type)
    assert [row.status for row in store.rows(billing.subscriptions)] == ["cancelled"]


@pytest.mark.anyio
async def test_an_earlier_period_that_is_paid_later_takes_nothing_away(
    inbox: Inbox, store: Store
) -> None:
    for end in (1_800_000_000, 1_700_000_000):
        period = {"period": {"start": 0, "end": end}}
        await handle(inbox, "stripe", "invoice.paid", lines={"data": [period]})
    [row] = store.rows(billing.subscriptions)
    assert (row.paid_until, row.periods_paid) == (1_800_000_000, 2)
