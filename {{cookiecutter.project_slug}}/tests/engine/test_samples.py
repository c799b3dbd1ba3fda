"""Samples: what `send`, `/docs` and the tests of handlers deliver."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import samples
from app.events import Event
from app.samples import add_examples, sample, sample_files
from app.webhooks.endpoint import Endpoint
from app.webhooks.route import webhook_router
from tests.delivery import Database, Deliver, HandlerFailed, running
from tests.engine.service import URL, application, effects, endpoint, handle


@pytest.fixture(autouse=True)
def fixtures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of the tests' own."""
    monkeypatch.setattr(samples, "FIXTURES", tmp_path)
    folder = tmp_path / "test"
    folder.mkdir()
    event = {"id": "evt_sample", "type": "order.paid", "data": {"amount": 1, "items": {"a": 1}}}
    (folder / "order.paid.json").write_text(json.dumps(event))
    (folder / "order.refunded.json").write_text(json.dumps(event | {"type": "order.refunded"}))
    (folder / "README.md").write_text("Not a sample.")


def test_there_is_a_sample_for_each_file_of_the_provider() -> None:
    assert list(sample_files(endpoint())) == ["order.paid", "order.refunded"]


def test_a_type_with_a_slash_is_a_file_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "test" / "orders").mkdir()
    (tmp_path / "test" / "orders" / "paid.json").write_text("{}")

    assert "orders/paid" in sample_files(endpoint())


def test_a_type_that_no_file_can_be_named_after_is_percent_encoded(tmp_path: Path) -> None:
    (tmp_path / "test" / "%2Fpaid%3F.json").write_text("{}")

    assert "/paid?" in sample_files(endpoint())


def test_a_sample_has_an_id_of_its_own_unless_one_is_chosen() -> None:
    one, other, chosen = (
        sample(endpoint(), "order.paid"),
        sample(endpoint(), "order.paid"),
        sample(endpoint(), "order.paid", "evt_1"),
    )

    assert one.event_id != other.event_id
    assert (chosen.event_id, json.loads(chosen.body)["id"]) == ("evt_1", "evt_1")


def test_a_sample_is_changed_at_the_paths_that_are_named() -> None:
    changed = sample(endpoint(), "order.paid", data__amount=2, data__items__b=[3], created=4)

    data = json.loads(changed.body)
    assert data["data"] == {"amount": 2, "items": {"a": 1, "b": [3]}}
    assert data["created"] == 4


def test_nobody_can_sign_for_a_verifier_of_another_kind() -> None:
    async def verify() -> None: ...

    assert sample_files(Endpoint("test", verify=verify, handler=handle)) == {}  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_deliver_returns_when_the_handler_is_done(database: Database) -> None:
    async with running(application()) as service:
        deliver = Deliver(service, [endpoint()], database)
        event_id = await deliver("order.paid", data__amount=2)
        assert await deliver("order.paid", event_id=event_id) == event_id

    assert await database.rows(sa.select(effects)) == [(event_id,)]


@pytest.mark.anyio
async def test_deliver_fails_as_the_handler_does(database: Database) -> None:
    async def fail(event: Event) -> None:
        raise ValueError(event.data["data"]["amount"])

    async with running(application()) as service:
        deliver = Deliver(service, [endpoint(fail)], database)
        with pytest.raises(HandlerFailed, match="ValueError: 2"):
            await deliver("order.paid", data__amount=2)


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_the_documented_example_can_be_tried_out(database: Database, prefix: str) -> None:
    endpoints = [endpoint(), Endpoint("follow-ups", handler=handle)]
    app = FastAPI()
    app.include_router(webhook_router(endpoints), prefix=prefix)
    add_examples(app, endpoints)

    with TestClient(app) as client:
        operation = client.get("/openapi.json").json()["paths"][prefix + URL]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        headers = {each["name"]: each["example"] for each in operation["parameters"]}
        answer = client.post(prefix + URL, content=json.dumps(example), headers=headers)
        assert answer.status_code == 200
        assert "swagger" in client.get("/docs").text
    assert samples.HINT in operation["description"]
