"""What GitHub signs is accepted, and nothing else."""

import hmac
import json
from urllib.parse import quote_plus, urlencode

import pytest

from app.events import Delivery, Event
from app.inbox.inbox import Inbox
from app.processing.attempt import attempt
from app.settings import Secrets, settings
from app.webhooks.endpoint import Endpoint, by_name
from app.webhooks.github import DELIVERY_HEADER, EVENT_HEADER, HEADER, HOOK_HEADER, GitHub
from tests.engine.receiver import HALF_A_CHARACTER, Field, Receiver

CURRENT, PREVIOUS = "the-current-one", "the-previous-one"
SECRETS = Secrets("GITHUB_WEBHOOK_SECRET", (CURRENT, PREVIOUS), "see the webhook's page")
OLD_HEADER = "X-Hub-Signature"
DELIVERY = (DELIVERY_HEADER, "72d3162e-cc78-11e3-81ab-4c9367dc0958")
EVENT = (EVENT_HEADER, "pull_request")
FORM = ("Content-Type", "application/x-www-form-urlencoded")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """An endpoint of GitHub, for bodies of any size."""
    monkeypatch.setattr(settings, "max_body_bytes", 1_000_000)
    return Receiver(GitHub(SECRETS))


def body(**fields: object) -> bytes:
    """Return an event with some fields set, or left out if they are None."""
    event = {"action": "opened", "number": 12} | fields
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


def form(payload: bytes) -> bytes:
    """Return a body as a form."""
    return urlencode({"payload": payload}).encode()


def mac(payload: bytes, secret: str = CURRENT, algorithm: str = "sha256") -> str:
    """Return a signature as GitHub makes it."""
    digits = hmac.new(secret.encode(), payload, algorithm).hexdigest()
    return f"{algorithm}={digits}"


def signed(payload: bytes, secret: str = CURRENT, event: str = "pull_request") -> list[Field]:
    """Return the headers of a request."""
    return [(HEADER, mac(payload, secret)), DELIVERY, (EVENT_HEADER, event)]


def test_the_signature_that_github_publishes_is_right() -> None:
    """See https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries."""
    secrets = Secrets("GITHUB_WEBHOOK_SECRET", ("It's a Secret to Everybody",), "")
    receiver = Receiver(GitHub(secrets))
    digits = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    wrong = digits[:-1] + "8"

    published = (HEADER, f"sha256={digits}")
    assert receiver.status(b"Hello, World!", published, DELIVERY, EVENT) == 400
    assert receiver.reasons() == ["not JSON"]  # so it was taken for authentic
    assert receiver.status(b"Hello, World!", (HEADER, f"sha256={wrong}"), DELIVERY, EVENT) == 401


@pytest.mark.parametrize("secret", [CURRENT, PREVIOUS])
def test_while_they_rotate_each_secret_is_accepted(receiver: Receiver, secret: str) -> None:
    payload = body()

    assert receiver.status(payload, *signed(payload, secret)) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type) == (DELIVERY[1], "pull_request.opened")
    assert (delivery.payload, delivery.data) == (payload, json.loads(payload))


def test_digits_may_be_in_upper_case_with_blanks_around(receiver: Receiver) -> None:
    payload = body()
    digits = mac(payload).removeprefix("sha256=").upper()

    assert receiver.status(payload, (HEADER, f" sha256={digits}\t"), DELIVERY, EVENT) == 200


@pytest.mark.parametrize(
    "fields", [["WRONG", "RIGHT"], ["RIGHT", "WRONG"], ["WRONG, RIGHT"], ["sha1=1,RIGHT"]]
)
def test_every_signature_of_a_request_is_tried(receiver: Receiver, fields: list[str]) -> None:
    payload = body()
    wrong = "sha256=" + "0" * 64
    sent = [each.replace("RIGHT", mac(payload)).replace("WRONG", wrong) for each in fields]

    headers = [(HEADER, each) for each in sent]
    assert receiver.status(payload, *headers, DELIVERY, EVENT) == 200


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "missing"),
        (" ", "missing"),
        (",", "malformed"),
        ("sha256", "malformed"),
        ("sha256=", "malformed"),
        ("sha256=,", "malformed"),
        ("DIGITS", "malformed"),
        ("sha1=DIGITS", "malformed"),
        ("sha512=DIGITS", "malformed"),
        ("SHA256=DIGITS", "malformed"),
        ("xsha256=DIGITS", "malformed"),
        ("sha256:DIGITS", "malformed"),
        ("sha256=DIGITS" + ",sha256=x" * 10, "malformed"),
        ("sha256=DIGITS0", "mismatch"),
        ("sha256=sha256=DIGITS", "mismatch"),
        ('sha256="DIGITS"', "mismatch"),
        ("sha256=nonsense", "mismatch"),
        ("sha256=" + "ä" * 64, "mismatch"),
        (b"sha256=\xff\xfe", "mismatch"),
        ("sha256=" + "x" * 100_000, "mismatch"),
    ],
    ids=range(20),
)
def test_a_malformed_header_is_refused(
    receiver: Receiver, header: str | bytes, reason: str
) -> None:
    payload = body()
    sent = header if isinstance(header, bytes) else header.encode()
    sent = sent.replace(b"DIGITS", mac(payload).removeprefix("sha256=").encode())

    assert receiver.status(payload, (HEADER, sent), DELIVERY, EVENT) == 401
    assert receiver.reasons() == [reason]


def test_the_signature_with_sha_1_proves_nothing(receiver: Receiver) -> None:
    payload = body()
    old = mac(payload, algorithm="sha1")
    wrong = (HEADER, "sha256=" + "0" * 64)

    assert receiver.status(payload, (OLD_HEADER, old), DELIVERY, EVENT) == 401
    assert receiver.status(payload, (OLD_HEADER, mac(payload)), DELIVERY, EVENT) == 401
    assert receiver.status(payload, (HEADER, old), DELIVERY, EVENT) == 401
    assert receiver.status(payload, wrong, (OLD_HEADER, old), DELIVERY, EVENT) == 401
    assert receiver.reasons() == ["missing", "missing", "malformed", "mismatch"]

    assert receiver.status(payload, *signed(payload), (OLD_HEADER, "sha1=wrong")) == 200


def test_a_request_without_a_signature_is_refused(receiver: Receiver) -> None:
    assert receiver.status(body(), DELIVERY, EVENT) == 401


@pytest.mark.parametrize("secret", ["the-wrong-one", "", " "])
def test_the_signature_of_another_secret_is_refused(receiver: Receiver, secret: str) -> None:
    payload = body()

    assert receiver.status(payload, *signed(payload, secret)) == 401


def test_without_a_secret_everything_is_refused() -> None:
    payload = body()
    receiver = Receiver(GitHub(Secrets("GITHUB_WEBHOOK_SECRET", (), "")))

    assert receiver.status(payload, *signed(payload, "")) == 401


@pytest.mark.parametrize(
    ("event", "action", "event_type"),
    [
        ("pull_request", "opened", "pull_request.opened"),
        ("push", None, "push"),
        ("ping", None, "ping"),
        ("repository_dispatch", "on demand.now", "repository_dispatch.on demand.now"),
    ],
)
def test_the_type_is_the_event_and_its_action_if_it_has_one(
    receiver: Receiver, event: str, action: str | None, event_type: str
) -> None:
    payload = body(action=action)

    assert receiver.status(payload, *signed(payload, event=event)) == 200
    assert receiver.deliveries[0].type == event_type


@pytest.mark.parametrize(
    "data", [{"title": "Größe & Preis + 100 % = ?", "action": "opened"}, {"a": "\ud83d\n"}], ids=str
)
def test_a_form_is_signed_as_it_was_sent_and_its_json_is_the_data(
    receiver: Receiver, data: dict[str, str]
) -> None:
    payload = json.dumps(data, ensure_ascii="a" in data).encode()
    sent = form(payload)

    assert receiver.status(sent, *signed(payload), FORM) == 401
    assert receiver.status(sent, *signed(sent), FORM) == 200

    [delivery] = receiver.deliveries
    assert (delivery.payload, delivery.data) == (sent, data)
    assert GitHub(SECRETS).parse(sent) == data


@pytest.mark.anyio
async def test_the_handler_of_a_form_is_given_its_json(inbox: Inbox) -> None:
    events = []

    async def handler(event: Event) -> None:
        events.append(event)

    sent = form(body())
    endpoint = Endpoint("github", verify=GitHub(SECRETS), handler=handler)
    await inbox.add("github", Delivery("evt_1", "pull_request.opened", sent, {}))
    [claim] = await inbox.claim_due(1)
    await attempt(inbox, by_name([endpoint]), claim)

    assert [(event.payload, event.data) for event in events] == [(sent, json.loads(body()))]


def test_blanks_of_a_form_may_be_written_in_both_ways() -> None:
    written = quote_plus('{"a": "b c+d"}')

    assert GitHub(SECRETS).parse(f"payload={written}".encode()) == {"a": "b c+d"}
    percent = written.replace("+", "%20")
    assert GitHub(SECRETS).parse(f"payload={percent}".encode()) == {"a": "b c+d"}


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=x", FORM[1]])
def test_the_content_type_does_not_matter(receiver: Receiver, content_type: str) -> None:
    for payload in (body(), form(body())):
        assert receiver.status(payload, *signed(payload), ("Content-Type", content_type)) == 200

    assert [each.data for each in receiver.deliveries] == [json.loads(body())] * 2


NO_EVENTS = {
    "nothing": b"",
    "half": b"{",
    "a list": b"[]",
    "null": b"null",
    "NaN": b'{"a": NaN}',
    "not UTF-8": b"\xff",
    "nested too deeply": b"[" * 100_000,
    "an empty action": body(action=""),
    "a list as action": body(action=["opened"]),
    "a line break in the action": body(action="a\nb"),
    "an action too long": body(action="x" * 255),
    "an empty form": b"payload=",
    "a form cut off": form(body())[:-3],
    "a form with half a byte": b"payload=%7",
    "a form that is not UTF-8": b"payload=%22%FF%22",
    "a form with more in it": form(body()) + b"&action=closed",
    "a form without the field": b"action=opened",
    "a list in a form": form(b"[]"),
    "a form in a form": form(form(body())),
}


@pytest.mark.parametrize("payload", NO_EVENTS.values(), ids=NO_EVENTS)
def test_what_is_no_event_is_only_told_to_who_has_signed_it(
    receiver: Receiver, payload: bytes
) -> None:
    assert receiver.status(payload, (HEADER, "sha256=" + "0" * 64), DELIVERY, EVENT) == 401
    assert receiver.status(payload, *signed(payload)) == 400
    assert receiver.notes()[0].startswith(f"id {DELIVERY[1]}, body sha256 ")


@pytest.mark.parametrize("left_out", [DELIVERY_HEADER, EVENT_HEADER])
@pytest.mark.parametrize("instead", [[], [""], [" "], ["x" * 256], [b"\xa0x\xad"]])
def test_without_an_id_or_an_event_it_is_a_bad_request(
    receiver: Receiver, left_out: str, instead: list[str | bytes]
) -> None:
    payload = body()
    headers = [field for field in signed(payload) if field[0] != left_out]

    assert receiver.status(payload, *headers, *((left_out, value) for value in instead)) == 400


def test_what_only_headers_say_is_kept_and_no_signature(receiver: Receiver) -> None:
    payload = body()
    more = [(HOOK_HEADER, "292430182"), ("User-Agent", "GitHub-Hookshot/044aadd")]
    others = [(OLD_HEADER, "sha1=1"), ("Authorization", "Bearer token")]

    receiver.post(payload, *signed(payload), *more, *others)

    assert receiver.deliveries[0].headers == dict([DELIVERY, EVENT, *more])


def test_the_raw_bytes_are_what_counts(receiver: Receiver) -> None:
    payload = body()
    spaced = json.dumps(json.loads(payload), indent=8).encode() + b"\r\n"

    assert receiver.status(spaced, *signed(payload)) == 401
    assert receiver.status(spaced, *signed(spaced)) == 200
    assert receiver.status(HALF_A_CHARACTER, *signed(HALF_A_CHARACTER)) == 200
    assert [each.payload for each in receiver.deliveries] == [spaced, HALF_A_CHARACTER]


@pytest.mark.parametrize("event_type", ["push", "issues.opened"])
def test_a_sample_is_what_github_would_send(receiver: Receiver, event_type: str) -> None:
    payload, headers = GitHub(SECRETS).sample({"a": "ä"}, "evt_2", event_type)

    assert receiver.status(payload, *headers.items()) == 200

    [delivery] = receiver.deliveries
    assert (delivery.id, delivery.type, delivery.data["a"]) == ("evt_2", event_type, "ä")


def test_nothing_of_a_request_is_logged(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")
    payload = body(email="zoe@example.com")

    receiver.post(payload, *signed(payload))
    receiver.post(payload, *signed(payload, "the-wrong-one"))

    assert caplog.text == ""
