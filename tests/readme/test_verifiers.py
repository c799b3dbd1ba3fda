"""A verifier that the documentation of a project shows does what it says."""

import pytest
from conftest import Install
from project import Variant

from readme.test_readme import fences

ZOOM = """
import hashlib
import hmac
import json
import time

import pytest

from app.settings import Secrets
from app.webhooks.custom import CustomSettings
from app.webhooks.zoom import Zoom
from tests.engine.receiver import Field, Receiver

SETTINGS = {
    "header": "x-zm-signature",
    "prefix": "v0=",
    "timestamp_header": "x-zm-request-timestamp",
    "message": "v0:{timestamp}:{body}",
    "id": "sha256",
    "type": "json:event",
}


@pytest.fixture
def receiver() -> Receiver:
    settings = CustomSettings.model_validate(SETTINGS)
    return Receiver(Zoom(Secrets("X", ("the-secret",), ""), settings))


def mac(message: bytes) -> str:
    return hmac.new(b"the-secret", message, hashlib.sha256).hexdigest()


def signed(payload: bytes) -> list[Field]:
    at = str(int(time.time()))
    signature = mac(b"v0:" + at.encode() + b":" + payload)
    return [("x-zm-request-timestamp", at), ("x-zm-signature", f"v0={signature}")]


def asked(payload: object) -> bytes:
    return json.dumps({"event": "endpoint.url_validation", "payload": payload}).encode()


def test_an_event_is_accepted(receiver: Receiver) -> None:
    payload = json.dumps({"event": "meeting.started", "payload": {}}).encode()

    assert receiver.status(payload, *signed(payload)) == 200
    assert receiver.status(payload + b" ", *signed(payload)) == 401
    assert [each.type for each in receiver.deliveries] == ["meeting.started"]


def test_a_challenge_is_answered_and_not_an_event(receiver: Receiver) -> None:
    payload = asked({"plainToken": "qgg8vlvZRS6UYooatFL8Aw"})

    answer = receiver.post(payload, *signed(payload)).json()

    token = answer["plainToken"]
    assert (token, answer["encryptedToken"]) == ("qgg8vlvZRS6UYooatFL8Aw", mac(token.encode()))
    assert receiver.deliveries == []
    assert receiver.status(payload) == 401


@pytest.mark.parametrize("payload", [None, [], {}, {"plainToken": 1.5}, {"plainToken": ""}])
def test_a_challenge_that_is_none_is_a_bad_request(receiver: Receiver, payload: object) -> None:
    assert receiver.status(asked(payload), *signed(asked(payload))) == 400
"""

TICKETS = """
import pytest

from app.settings import Secrets
from app.webhooks.tickets import Tickets
from tests.engine.receiver import Receiver

ERRORS = {"response_action": "errors", "errors": {"request": "Please say a little more."}}


@pytest.mark.parametrize(("text", "stored"), [("short", False), ("long enough for a ticket", True)])
def test_a_modal_with_an_error_is_answered_and_is_no_event(text: str, stored: bool) -> None:
    verifier = Tickets(Secrets("X", ("the-secret",), ""))
    view = {"state": {"values": {"request": {"text": {"value": text}}}}}
    payload, headers = verifier.sample({"view": view}, "evt_1", "view_submission")
    receiver = Receiver(verifier)

    answer = receiver.post(payload, *headers.items())

    assert answer.status_code == 200
    assert (answer.json() == ERRORS) != stored
    assert len(receiver.deliveries) == int(stored)
"""


@pytest.mark.parametrize(
    ("provider", "module", "tests"), [("custom", "zoom", ZOOM), ("slack", "tickets", TICKETS)]
)
def test_a_verifier_can_be_written_as_the_readme_shows_it(
    install: Install, provider: str, module: str, tests: str
) -> None:
    project = install(Variant(provider, "background"))
    definition = f"class {module.title()}("
    [shown] = [each.body for each in fences(project.guide()) if definition in each.body]
    verifier, test = f"app/webhooks/{module}.py", f"tests/engine/test_{module}.py"
    try:
        project.write(verifier, shown)
        project.write(test, tests.lstrip())
        project.run(f"uv run pytest {test}")
        project.run(f"uv run ruff check --fix {verifier}")
        project.run(f"uv run mypy {verifier} {test}")
    finally:
        for file in (verifier, test):
            (project.path / file).unlink(missing_ok=True)
