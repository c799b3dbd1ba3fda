"""Webhooks of GitHub: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries.

    X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17
    X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958
    X-GitHub-Event: pull_request

The HMAC-SHA256 of the body, in hex. Only the body is signed: no header, and no time. The body is
JSON, or a form with the JSON as its only field, `payload`.

GitHub sends `X-Hub-Signature` as well, with SHA-1. It proves nothing here.
"""

import json
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request
from starlette.datastructures import Headers

from app.events import Delivery, checked_text, parse_json
from app.settings import Secrets
from app.webhooks.body import read_body
from app.webhooks.refusals import InvalidEvent, InvalidSignature
from app.webhooks.signatures import header_values, is_signed, sign
from app.webhooks.verifier import Verifier, identify, keep_headers

HEADER = "X-Hub-Signature-256"
PREFIX = "sha256="
DELIVERY_HEADER = "X-GitHub-Delivery"
EVENT_HEADER = "X-GitHub-Event"
HOOK_HEADER = "X-GitHub-Hook-ID"

KEPT_HEADERS = (DELIVERY_HEADER, EVENT_HEADER, HOOK_HEADER, "User-Agent")

FORM = b"payload="  # how a form begins; no JSON begins like that


class GitHub(Verifier):
    """Accepts what GitHub signed with one of the secrets.

    The event's type is the name of the event and its action, `pull_request.opened`, or the name
    alone if it has no action: `push`.
    """

    provider = "github"

    def __init__(self, secrets: Secrets) -> None:
        self.secrets = secrets
        self._keys = [secret.encode() for secret in secrets]

    async def __call__(self, request: Request) -> Delivery:
        """Return the event of a request that GitHub signed."""
        payload = await read_body(request)
        signatures = header_values(request.headers, HEADER, PREFIX)
        if not is_signed(payload, signatures, self._keys):
            raise InvalidSignature("mismatch")
        try:
            return self._read(request.headers, payload)
        except InvalidEvent as refusal:
            refusal.add_note(identify(payload, _delivery_id(request.headers)))
            raise

    def parse(self, payload: bytes) -> Any:
        """Return the JSON that is the body, or that stands in the form."""
        if payload.startswith(FORM):
            value = payload.removeprefix(FORM).replace(b"+", b" ")
            return parse_json(unquote_to_bytes(value))
        return parse_json(payload)

    def sample(
        self, data: dict[str, Any], event_id: str, event_type: str
    ) -> tuple[bytes, dict[str, str]]:
        """Return body and headers as GitHub would send `data` now."""
        event, _, action = event_type.partition(".")
        sent = data | {"action": action} if action else data
        payload = json.dumps(sent, indent=2, ensure_ascii=False).encode()
        key = self._keys[0] if self._keys else b""
        return payload, {
            HEADER: PREFIX + sign(payload, key),
            DELIVERY_HEADER: event_id,
            EVENT_HEADER: event,
            HOOK_HEADER: "292430182",
        }

    def _read(self, headers: Headers, payload: bytes) -> Delivery:
        data = self.parse(payload)
        if not isinstance(data, dict):
            raise InvalidEvent("not an object")
        event_id = checked_text(_delivery_id(headers), "id")
        event_type = checked_text(headers.get(EVENT_HEADER, "").strip(), "type")
        if data.get("action") is not None:
            action = checked_text(data["action"], "action")
            event_type = checked_text(f"{event_type}.{action}", "type")
        kept = keep_headers(headers, KEPT_HEADERS)
        return Delivery(event_id, event_type, payload, data, kept)


def _delivery_id(headers: Headers) -> str:
    return headers.get(DELIVERY_HEADER, "").strip()
