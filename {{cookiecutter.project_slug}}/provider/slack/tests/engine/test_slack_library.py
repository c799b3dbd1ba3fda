"""Slack's library agrees: it accepts what is signed here, and what it signs is accepted here."""

import time
from urllib.parse import urlencode

import pytest
from slack_sdk.signature import SignatureVerifier

from app.settings import Secrets
from app.webhooks.slack import HEADER, TIMESTAMP_HEADER, Slack
from tests.engine.receiver import Receiver

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"

verifier = Slack(Secrets("SLACK_WEBHOOK_SECRET", (SECRET,), ""))
library = SignatureVerifier(SECRET)

EVENT = '{"type": "event_callback", "event_id": "Ev1", "event": {"type": "message", "text": "ä"}}'
COMMAND = urlencode({"command": "/ship", "text": "Größe & Preis + 100 %", "trigger_id": "1.2.c"})


@pytest.mark.parametrize("body", [EVENT, COMMAND], ids=["event", "command"])
def test_what_the_library_signs_is_accepted(body: str) -> None:
    timestamp = str(int(time.time()))
    signature = library.generate_signature(timestamp=timestamp, body=body)
    assert signature is not None

    receiver = Receiver(verifier)
    headers = [(TIMESTAMP_HEADER, timestamp), (HEADER, signature)]
    assert receiver.status(body.encode(), *headers) == 200
    assert receiver.status(body.encode() + b" ", *headers) == 401


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        ("message", {"event": {"text": "ä"}}),
        ("block_actions", {"text": "ä"}),
        ("/ship", {"a": "ä"}),
    ],
)
def test_the_library_accepts_what_a_sample_is_signed_with(
    event_type: str, data: dict[str, object]
) -> None:
    payload, headers = verifier.sample(data, "Ev2", event_type)

    assert library.is_valid_request(payload, headers)
    assert not library.is_valid_request(payload + b" ", headers)
    assert not SignatureVerifier("another").is_valid_request(payload, headers)


@pytest.mark.parametrize("age", [290, 310])
def test_both_have_the_same_tolerance_for_the_past(age: int) -> None:
    timestamp = str(int(time.time()) - age)
    signature = library.generate_signature(timestamp=timestamp, body=EVENT)
    assert signature is not None

    theirs = library.is_valid(body=EVENT, timestamp=timestamp, signature=signature)
    headers = [(TIMESTAMP_HEADER, timestamp), (HEADER, signature)]
    ours = Receiver(verifier).status(EVENT.encode(), *headers) == 200

    assert theirs == ours == (age == 290)
