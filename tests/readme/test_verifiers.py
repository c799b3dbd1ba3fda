"""A verifier that the README of a project shows does what the README says of it."""

from conftest import Install
from project import Variant

from readme.test_readme import README, fences

TESTS = """
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


def test_the_verifier_for_zoom_accepts_events_and_answers_challenges(install: Install) -> None:
    project = install(Variant("custom", "background"))
    [shown] = [fence.body for fence in fences(project.read(README)) if "class Zoom" in fence.body]
    written = {"app/webhooks/zoom.py": shown, "tests/engine/test_zoom.py": TESTS.lstrip()}
    try:
        for file, text in written.items():
            project.write(file, text)
        project.run("uv run pytest tests/engine/test_zoom.py")
        project.run("uv run ruff check --fix app/webhooks/zoom.py")
        project.run("uv run mypy app/webhooks/zoom.py tests/engine/test_zoom.py")
    finally:
        for file in written:
            (project.path / file).unlink(missing_ok=True)
