"""About `app.main`, with your endpoints, whatever they are.

No other test of the engine uses them.
"""

import json
import logging
import re
import runpy
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from app.endpoints import endpoints
from app.inbox.table import webhook_events
from app.main import app
from app.samples import Sample, sample, sample_files
from app.settings import settings
from app.webhooks.endpoint import Endpoint, nobody
from app.webhooks.route import webhook_router
from app.webhooks.verifier import Verifier
from tests.conftest import ROOT
from tests.delivery import Database, Service, running

pytestmark = pytest.mark.anyio

SAMPLES = [(each, event_type) for each in endpoints for event_type in sample_files(each)]
RECEIVING = [endpoint for endpoint in endpoints if endpoint.verify is not nobody]
SIGNED = [
    endpoint
    for endpoint in endpoints
    if isinstance(endpoint.verify, Verifier) and endpoint.verify.secrets is not None
]
every_sample = pytest.mark.parametrize(
    ("endpoint", "event_type"), SAMPLES, ids=[f"{each.name}-{name}" for each, name in SAMPLES]
)
every_signed_endpoint = pytest.mark.parametrize(
    "endpoint", SIGNED, ids=[endpoint.name for endpoint in SIGNED]
)


@pytest.fixture
async def service(database: Database) -> AsyncIterator[Service]:
    """Your application, running, but attempting nothing by itself."""
    async with running(app) as service:
        yield service


async def post(service: Service, endpoint: Endpoint, sent: Sample) -> int:
    """Post a delivery; return the status of the answer."""
    path = app.url_path_for(endpoint.name)
    answer = await service.client.post(path, content=sent.body, headers=sent.headers)
    return answer.status_code


@every_sample
async def test_every_sample_is_acknowledged_and_stored(
    service: Service, database: Database, endpoint: Endpoint, event_type: str
) -> None:
    sent = sample(endpoint, event_type)

    assert await post(service, endpoint, sent) == 200
    [event] = await database.rows(sa.select(webhook_events))
    assert (event.endpoint, event.event_type) == (endpoint.name, event_type)
    assert event.payload == sent.body


@every_sample
async def test_a_body_that_was_changed_on_the_way_is_refused_if_it_is_signed(
    service: Service, database: Database, endpoint: Endpoint, event_type: str
) -> None:
    if endpoint not in SIGNED:
        pytest.skip("nobody signs these")
    sent = sample(endpoint, event_type)

    assert await post(service, endpoint, replace(sent, body=sent.body + b" ")) == 401
    assert await database.rows(sa.select(webhook_events)) == []


@every_sample
async def test_no_line_of_the_log_holds_what_was_sent(
    service: Service, caplog: pytest.LogCaptureFixture, endpoint: Endpoint, event_type: str
) -> None:
    caplog.set_level(logging.DEBUG)
    sent = sample(endpoint, event_type)

    await post(service, endpoint, sent)
    await post(service, endpoint, replace(sent, body=sent.body[:-1]))
    await post(service, endpoint, replace(sent, body=sent.body + b" "))

    known = f"{sent.event_id} {event_type} {endpoint.name}"  # what a log is for
    headers = " ".join(sent.headers.values())
    assert isinstance(endpoint.verify, Verifier)
    private = [*texts(endpoint.verify.parse(sent.body)), *re.split("[ ,=]", headers)]
    looked_for = [text for text in private if len(text) > 7 and text not in known]
    assert [text for text in looked_for if text in caplog.text] == []


def texts(data: Any) -> list[str]:
    """Return every text in a body."""
    if isinstance(data, dict):
        return texts(list(data.values()))
    if isinstance(data, list):
        return [text for each in data for text in texts(each)]
    return [data] if isinstance(data, str) else []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_webhooks_are_posted(service: Service, method: str) -> None:
    for endpoint in RECEIVING:
        path = app.url_path_for(endpoint.name)
        assert (await service.client.request(method, path)).status_code == 405


async def test_no_path_is_ever_redirected(service: Service) -> None:
    """Senders take a redirect for a failure."""
    paths = [f"{app.url_path_for(endpoint.name)}/" for endpoint in RECEIVING]

    for path in [*paths, "/webhooks", "/webhooks/", "/webhooks/nobody"]:
        assert (await service.client.post(path)).status_code == 404


async def test_what_the_documentation_shows_can_be_tried_out(service: Service) -> None:
    paths = (await service.client.get("/openapi.json")).json()["paths"]
    for endpoint, event_type in SAMPLES:
        path = app.url_path_for(endpoint.name)
        example = paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
        headers = {
            each["name"]: each["example"] for each in paths[path]["post"].get("parameters", [])
        }
        as_shown = json.dumps(example, indent=2, ensure_ascii=False)
        shown = Sample("", as_shown.encode(), headers)
        assert await post(service, endpoint, shown) == 200, event_type


@every_signed_endpoint
@pytest.mark.parametrize(
    ("secrets", "problem"),
    [((), "is not set"), (("replace_me",), "is still a placeholder")],
)
def test_production_does_not_start_without_a_real_secret(
    monkeypatch: pytest.MonkeyPatch,
    endpoint: Endpoint,
    secrets: tuple[str, ...],
    problem: str,
) -> None:
    verifier = endpoint.verify
    assert isinstance(verifier, Verifier)
    assert verifier.secrets is not None
    monkeypatch.setattr(settings, "environment", "production")
    monkeypatch.setattr(verifier, "secrets", replace(verifier.secrets, values=secrets))

    with pytest.raises(SystemExit) as refusal:
        webhook_router([endpoint])

    line = str(refusal.value)
    assert line.startswith(f"{verifier.secrets.variable} {problem}: ")
    assert "\n" not in line


def test_production_shows_no_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "environment", "production")

    in_production = runpy.run_path(str(ROOT / "app" / "main.py"))["app"]

    paths = {getattr(route, "path", "") for route in in_production.routes}
    assert not {"/docs", "/redoc", "/openapi.json"} & paths
