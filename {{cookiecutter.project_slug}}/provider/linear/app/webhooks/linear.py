"""Webhooks of Linear: https://linear.app/developers/webhooks#securing-webhooks.

    Linear-Signature: 766e1d90a96e2f5ecec342a99c5552999dd95d49250171b902d703fd674f5086
    Linear-Delivery: 234d1a4e-b617-4388-90fe-adc3633d6b72

The HMAC-SHA256 of the body, in hex. The body has the time at which it was sent.
"""

import json
import time
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers

from app.events import Delivery, checked_text, parse_json
from app.settings import Secrets
from app.webhooks.body import read_body
from app.webhooks.refusals import InvalidEvent, InvalidSignature
from app.webhooks.signatures import check_timestamp, header_values, is_signed, sign
from app.webhooks.verifier import Verifier, identify, keep_headers

HEADER = "Linear-Signature"
DELIVERY_HEADER = "Linear-Delivery"
EVENT_HEADER = "Linear-Event"
TOLERANCE_SECONDS = 300  # Linear suggests a minute; clocks differ by more


class Linear(Verifier):
    """Accepts what Linear signed with one of the secrets.

    The event's type is that of the body and its action: `Issue.create`.
    """

    provider = "linear"
    body_may_vary = True  # `webhookTimestamp` is the time of the delivery

    def __init__(self, secrets: Secrets) -> None:
        self.secrets = secrets
        self._keys = [secret.encode() for secret in secrets]

    async def __call__(self, request: Request) -> Delivery:
        """Return the event of a request that Linear signed."""
        payload = await read_body(request)
        signatures = header_values(request.headers, HEADER)
        if not is_signed(payload, signatures, self._keys):
            raise InvalidSignature("mismatch")
        try:
            return _read(request.headers, payload)
        except InvalidEvent as refusal:
            refusal.add_note(identify(payload, _delivery_id(request.headers)))
            raise

    def sample(
        self, data: dict[str, Any], event_id: str, event_type: str
    ) -> tuple[bytes, dict[str, str]]:
        """Return body and headers as Linear would send `data` now."""
        kind, _, action = event_type.rpartition(".")
        sent = {"type": kind, "action": action, "webhookTimestamp": int(time.time() * 1000)}
        payload = json.dumps(data | sent, indent=2, ensure_ascii=False).encode()
        key = self._keys[0] if self._keys else b""
        return payload, {
            HEADER: sign(payload, key),
            DELIVERY_HEADER: event_id,
            EVENT_HEADER: kind,
        }


def _read(headers: Headers, payload: bytes) -> Delivery:
    data = parse_json(payload)
    if not isinstance(data, dict):
        raise InvalidEvent("not an object")
    milliseconds = data.get("webhookTimestamp")
    if not isinstance(milliseconds, int):
        raise InvalidSignature("malformed")
    check_timestamp(str(milliseconds // 1000), TOLERANCE_SECONDS)
    event_id = checked_text(_delivery_id(headers), "id")
    kind = checked_text(data.get("type"), "type")
    action = checked_text(data.get("action"), "action")
    event_type = checked_text(f"{kind}.{action}", "type")
    kept = keep_headers(headers, (DELIVERY_HEADER, EVENT_HEADER))
    return Delivery(event_id, event_type, payload, data, kept)


def _delivery_id(headers: Headers) -> str:
    return headers.get(DELIVERY_HEADER, "").strip()
