"""What fits the model is accepted, and nothing else."""

import hashlib
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from app.events import Event
from app.samples import add_examples
from app.settings import settings
from app.webhooks.endpoint import Endpoint
from app.webhooks.route import webhook_router
from app.webhooks.unsigned import Unsigned
from tests.delivery import Database, running
from tests.engine.receiver import HALF_A_CHARACTER, NO_EVENTS, Receiver, body

MISFITS = NO_EVENTS | {
    "no data": body(data=None),
    "a list as data": body(data=[1]),
}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """An endpoint for bodies of any size."""
    monkeypatch.setattr(settings, "max_body_bytes", 1_000_000)
    return Receiver(Unsigned())


def test_what_fits_is_accepted_with_fields_that_the_model_does_not_name(receiver: Receiver) -> None:
    payload = body(source="billing", data={"a": 1})

    assert receiver.status(payload) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type, delivery.payload) == ("evt_1", "test.happened", payload)
    assert (delivery.data["source"], delivery.data["data"]) == ("billing", {"a": 1})


def test_half_a_character_is_kept_as_it_was_sent(receiver: Receiver) -> None:
    for payload in (HALF_A_CHARACTER, body(data={"\ud800": 1}), body(**{"\ud800": 1})):
        assert receiver.status(payload) == 200
        assert receiver.deliveries[-1].payload == payload


def test_a_number_may_be_an_id(receiver: Receiver) -> None:
    assert receiver.status(body(id=12345)) == 200
    assert receiver.deliveries[0].id == "12345"


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=x", "?"])
def test_the_content_type_does_not_matter(receiver: Receiver, content_type: str) -> None:
    assert receiver.status(body(), ("Content-Type", content_type)) == 200


@pytest.mark.parametrize("payload", MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_refused_with_details(receiver: Receiver, payload: bytes) -> None:
    answer = receiver.post(payload)

    assert answer.status_code == 422
    for detail in answer.json()["detail"]:
        assert set(detail) == {"type", "loc", "msg"}
        assert detail["loc"][0] == "body"


@pytest.mark.parametrize(
    ("fields", "location", "message"),
    [
        ({"type": None}, ["body", "type"], "Field required"),
        ({"id": True}, ["body", "id"], "Value error, no text"),
        ({"data": [1]}, ["body", "data"], "Input should be a valid dictionary"),
    ],
)
def test_the_details_are_those_of_fastapi(
    receiver: Receiver, fields: dict[str, Any], location: list[str], message: str
) -> None:
    [detail] = receiver.post(body(**fields)).json()["detail"]

    assert (detail["loc"], detail["msg"]) == (location, message)


def test_a_refused_event_can_be_found_at_its_sender(receiver: Receiver) -> None:
    payload = body(data="zoe@example.com")

    answer = receiver.post(payload)

    digest = hashlib.sha256(payload).hexdigest()
    assert receiver.notes() == [f"id evt_1, body sha256 {digest}"]
    assert receiver.reasons() == ["the body does not fit the model"]
    assert "zoe" not in answer.text


class Order(BaseModel):
    """A part of the body."""

    number: int
    amounts: dict[str, int] = {}


class OrderEvent(BaseModel):
    """A model as users write them. Its senders need no ids."""

    id: str | None = None
    type: str
    order: Order


def test_a_model_of_ones_own_decides() -> None:
    receiver = Receiver(Unsigned(OrderEvent))

    assert receiver.status(body(order={"number": 7})) == 200
    for order in (None, {}, {"number": "x"}, {"number": 7, "amounts": {"\ud800": "x"}}):
        assert receiver.status(body(order=order)) == 422
    assert receiver.status(body(order={"number": 7}, id="evt\0")) == 422


def test_a_model_without_an_id_or_a_type_refuses_the_start() -> None:
    with pytest.raises(SystemExit, match=r"^app/endpoints\.py: Order needs a field 'id'$"):
        Unsigned(Order)


def test_where_ids_are_not_required_the_same_body_is_the_same_event() -> None:
    receiver = Receiver(Unsigned(OrderEvent))
    payload = body(id=None, order={"number": 7})

    for sent in (payload, payload, payload + b" "):
        assert receiver.status(sent) == 200

    digests = [hashlib.sha256(sent).hexdigest() for sent in (payload, payload, payload + b" ")]
    assert [each.id for each in receiver.deliveries] == digests


def test_a_sample_is_what_a_sender_would_send(receiver: Receiver) -> None:
    payload, headers = Unsigned().sample({"data": {"name": "Zoë"}}, "evt_2", "thing.sent")

    assert receiver.status(payload, *headers.items()) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type) == ("evt_2", "thing.sent")
    assert delivery.data["data"]["name"] == "Zoë"


def test_the_start_warns_that_nothing_is_verified() -> None:
    assert "no signature is verified" in Unsigned().warning
    assert Unsigned().secrets is None


def test_nothing_of_a_request_is_logged(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")

    receiver.post(body())
    receiver.post(body(data="zoe@example.com"))

    assert caplog.text == ""


def application() -> FastAPI:
    """Return an application with an endpoint that has a model of its own."""

    async def handle(event: Event) -> None: ...

    app = FastAPI()
    endpoints = [Endpoint("unsigned", verify=Unsigned(OrderEvent), handler=handle)]
    app.include_router(webhook_router(endpoints))
    add_examples(app, endpoints)
    return app


def test_the_openapi_document_shows_the_model() -> None:
    document = application().openapi()

    operation = document["paths"]["/webhooks/unsigned"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/OrderEvent"}
    assert {"Order", "OrderEvent"} <= document["components"]["schemas"].keys()
    assert "422" in operation["responses"]
    assert "401" not in operation["responses"]


@pytest.mark.anyio
async def test_the_log_tells_which_event_was_refused(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(application()) as service:
        answer = await service.client.post("/webhooks/unsigned", content=body())

    assert answer.status_code == 422
    assert "does not fit the model; id evt_1, body sha256 " in caplog.text
