"""gidgethub agrees: it accepts what is accepted here, and refuses what is refused here.

It cannot sign, so a request is signed here, and both are asked.
"""

import hmac
import json
from urllib.parse import urlencode

import pytest
from gidgethub import ValidationFailure
from gidgethub.sansio import Event

from app.settings import Secrets
from app.webhooks.github import DELIVERY_HEADER, EVENT_HEADER, HEADER, GitHub
from tests.engine.receiver import Receiver

SECRET = "made up for the tests: ä"
JSON = json.dumps({"action": "opened", "title": "Größe & Preis + 100 %"}).encode()
FORM = urlencode({"payload": JSON}).encode()
TYPES = {JSON: "application/json", FORM: "application/x-www-form-urlencoded"}

verifier = GitHub(Secrets("GITHUB_WEBHOOK_SECRET", (SECRET,), ""))


def request(payload: bytes, signature: str) -> dict[str, str]:
    """Return headers in lower case, as gidgethub wants them."""
    headers = {HEADER: signature, DELIVERY_HEADER: "evt_1", EVENT_HEADER: "issues"}
    headers["Content-Type"] = TYPES[payload]
    return {name.lower(): value for name, value in headers.items()}


@pytest.mark.parametrize("payload", [JSON, FORM], ids=["json", "form"])
def test_both_read_the_same_event(payload: bytes) -> None:
    digits = hmac.new(SECRET.encode(), payload, "sha256").hexdigest()
    headers = request(payload, f"sha256={digits}")

    theirs = Event.from_http(headers, payload, secret=SECRET)
    receiver = Receiver(verifier)
    assert receiver.status(payload, *headers.items()) == 200

    [ours] = receiver.deliveries
    assert (ours.id, ours.data) == (theirs.delivery_id, theirs.data)
    assert ours.type == f"{theirs.event}.opened"


@pytest.mark.parametrize("payload", [JSON, FORM], ids=["json", "form"])
@pytest.mark.parametrize("secret", ["another", ""])
def test_both_refuse_another_secret(payload: bytes, secret: str) -> None:
    digits = hmac.new(secret.encode(), payload, "sha256").hexdigest()
    headers = request(payload, f"sha256={digits}")

    with pytest.raises(ValidationFailure):
        Event.from_http(headers, payload, secret=SECRET)
    assert Receiver(verifier).status(payload, *headers.items()) == 401


def test_gidgethub_accepts_what_a_sample_is_signed_with() -> None:
    payload, sent = verifier.sample(json.loads(JSON), "evt_1", "issues.opened")
    headers = {name.lower(): value for name, value in sent.items()}

    event = Event.from_http(headers | {"content-type": "application/json"}, payload, secret=SECRET)

    assert (event.delivery_id, event.event, event.data) == ("evt_1", "issues", json.loads(JSON))
