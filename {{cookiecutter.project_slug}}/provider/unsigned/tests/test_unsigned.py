"""What fits the model gets in, and nothing else."""

import hashlib
from http import HTTPStatus

import pytest
from fastapi.testclient import TestClient

from app.inbox import Inbox
from app.services import billing
from tests.payloads import BAD_IDS, HALF_A_CHARACTER, NOT_AN_EVENT, NOT_JSON, body
from tests.support import PATIENCE, Refusals, Store, handle, python

URL = "/webhooks/unsigned"
BODIES = NOT_JSON | NOT_AN_EVENT | BAD_IDS | {"no data": body(data=None), "flat": body(data=[1])}


def test_what_fits_is_kept_with_fields_the_model_does_not_name(
    client: TestClient, store: Store
) -> None:
    sent = body(source="billing", data={"a": 1})
    assert client.post(URL, content=sent).status_code == 200
    [row] = store.rows()
    assert (row.event_id, row.type, row.payload) == ("evt_1", "test.happened", sent)


def test_half_a_character_is_kept_as_it_was_sent(client: TestClient, store: Store) -> None:
    assert client.post(URL, content=HALF_A_CHARACTER).status_code == 200
    assert store.rows()[0].payload == HALF_A_CHARACTER


def test_without_an_id_the_same_body_is_the_same_event(client: TestClient, store: Store) -> None:
    sent = body(id=None)
    for payload in (sent, sent, sent + b" "):
        assert client.post(URL, content=payload).status_code == 200
    ids = [row.event_id for row in store.rows()]
    assert ids == [hashlib.sha256(payload).hexdigest() for payload in (sent, sent + b" ")]


@pytest.mark.parametrize("payload", BODIES.values(), ids=BODIES)
def test_what_does_not_fit_is_refused_with_the_reason(
    client: TestClient, store: Store, payload: bytes
) -> None:
    answer = client.post(URL, content=payload)
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert store.rows() == []


def test_a_refusal_is_logged_and_counted_without_what_was_sent(
    client: TestClient, refusals: Refusals, caplog: pytest.LogCaptureFixture
) -> None:
    client.post(URL, content=body(data="jenny@example.com"))
    assert refusals == [HTTPStatus(422).phrase]
    assert f"with 422: {HTTPStatus(422).phrase}" in caplog.text
    assert "jenny" not in caplog.text


def test_the_refusal_is_documented(client: TestClient) -> None:
    answers = client.get("/openapi.json").json()["paths"][URL]["post"]["responses"]
    assert "WebhookEvent" in answers["422"]["description"]


def test_the_start_warns_that_nothing_is_verified(capfd: pytest.CaptureFixture[str]) -> None:
    assert python("-c", "import app.main", measured=False).wait(PATIENCE) == 0
    assert "verifies no signature" in capfd.readouterr().err


@pytest.mark.anyio
async def test_the_samples_change_what_they_are_about(inbox: Inbox, store: Store) -> None:
    for type, status, periods in [
        ("subscription.activated", "active", 0),
        ("subscription.extended", "active", 1),
        ("payment.failed", "past_due", 1),
        ("subscription.cancelled", "cancelled", 1),
    ]:
        await handle(inbox, "unsigned", type)
        [subscription] = store.rows(billing.subscriptions)
        assert (subscription.status, subscription.periods_paid) == (status, periods)
    await handle(inbox, "unsigned", "order.paid")
    [order] = store.rows(billing.orders)
    assert order.amount > 0
