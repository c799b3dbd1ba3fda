"""Webhooks of Slack: https://docs.slack.dev/authentication/verifying-requests-from-slack.

    X-Slack-Signature: v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503
    X-Slack-Request-Timestamp: 1531420618

The HMAC-SHA256 of `v0:<timestamp>:<body>`, in hex. What is signed like that is one of these:

- an event of the Events API: JSON, with the event in an envelope
- an interaction, such as a click: a form with JSON as its only field, `payload`
- a slash command: a form
"""

import hashlib
import json
import time
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import Request, Response
from fastapi.responses import PlainTextResponse
from starlette.datastructures import Headers

from app.events import Delivery, checked_text, parse_json
from app.settings import Secrets
from app.webhooks.body import read_body
from app.webhooks.refusals import InvalidEvent, InvalidSignature
from app.webhooks.signatures import check_timestamp, header_values, is_signed, sign, single_value
from app.webhooks.verifier import Answer, Verifier, identify, keep_headers

HEADER = "X-Slack-Signature"
PREFIX = "v0="
TIMESTAMP_HEADER = "X-Slack-Request-Timestamp"
TOLERANCE_SECONDS = 300  # as Slack suggests

KEPT_HEADERS = ("X-Slack-Retry-Num", "X-Slack-Retry-Reason")

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


class Slack(Verifier):
    """Accepts what Slack signed with one of the secrets.

    The event's type is that of the event or the interaction, `app_mention` or `block_actions`, or
    the slash command: `/ship`.
    """

    provider = "slack"
    empty_answer = True  # Slack shows a body to whoever has typed the command

    def __init__(self, secrets: Secrets) -> None:
        self.secrets = secrets
        self._keys = [secret.encode() for secret in secrets]

    async def __call__(self, request: Request) -> Delivery:
        """Return the event of a request that Slack signed."""
        payload = await read_body(request)
        self._check_signature(request.headers, payload)
        try:
            return self._read(request.headers, payload)
        except InvalidEvent as refusal:
            refusal.add_note(identify(payload))
            raise

    def parse(self, payload: bytes) -> Any:
        """Return the JSON of an event or an interaction, or the fields of a slash command."""
        if payload.startswith(b"{"):
            return parse_json(payload)
        try:
            fields = dict(parse_qsl(payload.decode(), keep_blank_values=True, errors="strict"))
        except ValueError:
            raise InvalidEvent("not a form") from None
        if "payload" in fields:
            return parse_json(fields["payload"].encode())
        return fields

    def sample(
        self, data: dict[str, Any], event_id: str, event_type: str
    ) -> tuple[bytes, dict[str, str]]:
        """Return body and headers as Slack would send `data` now."""
        if "event" in data:
            event = data["event"] | {"type": event_type}
            sent = data | {"event_id": event_id, "event": event}
            payload = json.dumps(sent, indent=2, ensure_ascii=False).encode()
        elif event_type.startswith("/"):
            command = data | {"command": event_type, "trigger_id": event_id}
            payload = urlencode(command).encode()
        else:
            interaction = data | {"type": event_type, "trigger_id": event_id}
            payload = urlencode({"payload": json.dumps(interaction)}).encode()
        timestamp = str(int(time.time()))
        key = self._keys[0] if self._keys else b""
        return payload, {
            HEADER: PREFIX + sign(_signed_message(timestamp, payload), key),
            TIMESTAMP_HEADER: timestamp,
            "Content-Type": JSON if "event" in data else FORM,
        }

    def _check_signature(self, headers: Headers, payload: bytes) -> None:
        timestamp = single_value(headers, TIMESTAMP_HEADER)
        signatures = header_values(headers, HEADER, PREFIX)
        if not is_signed(_signed_message(timestamp, payload), signatures, self._keys):
            raise InvalidSignature("mismatch")
        check_timestamp(timestamp, TOLERANCE_SECONDS)

    def _read(self, headers: Headers, payload: bytes) -> Delivery:
        data = self.parse(payload)
        if not isinstance(data, dict):
            raise InvalidEvent("not an object")
        if data.get("type") == "url_verification":
            # https://docs.slack.dev/reference/events/url_verification
            raise Answer(PlainTextResponse(checked_text(data.get("challenge"), "challenge")))
        if "ssl_check" in data:  # Slack looks at the certificate, and wants no more than a 200
            raise Answer(Response())

        event = data.get("event")
        if isinstance(event, dict):
            event_id, event_type = data.get("event_id"), event.get("type")
        else:
            # Of a modal that was closed, say, there is no trigger.
            event_id = data.get("trigger_id") or hashlib.sha256(payload).hexdigest()
            event_type = data.get("command") or data.get("type")
        return Delivery(
            checked_text(event_id, "id"),
            checked_text(event_type, "type"),
            payload,
            data,
            keep_headers(headers, KEPT_HEADERS),
        )


def _signed_message(timestamp: str, payload: bytes) -> bytes:
    return f"v0:{timestamp}:".encode() + payload
