"""Webhooks of Stripe: https://docs.stripe.com/webhooks#verify-manually.

    Stripe-Signature: t=1492774577,v1=5257a869e7ecebed…,v1=…

`v1` is the HMAC-SHA256 of timestamp, dot and body, in hex: one for each secret while they rotate.
The `stripe` package can check it, too, but accepts timestamps from the future, and raises errors
of many kinds on malformed requests.
"""

import json
import re
import time
from typing import Any

from fastapi import Request
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.datastructures import Headers

from app.events import Delivery, checked_text, parse_json
from app.settings import ENV_FILE, Secrets, load, settings
from app.webhooks.body import read_body
from app.webhooks.refusals import InvalidEvent, InvalidSignature
from app.webhooks.signatures import check_timestamp, header_values, is_signed, sign
from app.webhooks.verifier import Verifier, identify

HEADER = "Stripe-Signature"
TOLERANCE_SECONDS = 300  # as in Stripe's libraries, but in both directions
EVENT_ID = re.compile(rb'(?<=")evt_\w{1,99}(?=")')


class StripeSettings(BaseSettings):
    """What may be set beside the secrets: `allow_test_events` is `STRIPE_ALLOW_TEST_EVENTS`."""

    model_config = SettingsConfigDict(
        env_prefix="STRIPE_", env_file=ENV_FILE, env_ignore_empty=True, extra="ignore"
    )

    allow_test_events: bool = False
    """Whether production accepts events of Stripe's test mode. Development always does."""


class Stripe(Verifier):
    """Accepts what Stripe signed with one of the secrets.

    Args:
        secrets: The signing secrets of one endpoint, `whsec_…`.
        tolerance: By how many seconds a timestamp may differ from this host's clock.
        allow_test_events: Whether to accept events with `"livemode": false`. By default as
            `STRIPE_ALLOW_TEST_EVENTS` says, and always in development.
    """

    provider = "stripe"
    body_may_vary = True  # `pending_webhooks` counts down from delivery to delivery

    def __init__(
        self,
        secrets: Secrets,
        *,
        tolerance: int = TOLERANCE_SECONDS,
        allow_test_events: bool | None = None,
    ) -> None:
        if allow_test_events is None:
            is_development = settings.environment == "development"
            allow_test_events = is_development or load(StripeSettings).allow_test_events
        self.secrets = secrets
        self._keys = [secret.encode() for secret in secrets]
        self._tolerance = tolerance
        self._allow_test_events = allow_test_events

    async def __call__(self, request: Request) -> Delivery:
        """Return the event of a request that Stripe signed."""
        payload = await read_body(request)
        self._check_signature(request.headers, payload)
        try:
            return self._read(payload)
        except InvalidEvent as refusal:
            event_id = EVENT_ID.search(payload)
            refusal.add_note(identify(payload, event_id and event_id.group().decode()))
            raise

    def sample(
        self, data: dict[str, Any], event_id: str, event_type: str
    ) -> tuple[bytes, dict[str, str]]:
        """Return body and headers as Stripe would send `data` now."""
        event = data | {"id": event_id, "type": event_type}
        payload = json.dumps(event, indent=2, ensure_ascii=False).encode()
        timestamp = str(int(time.time()))
        key = self._keys[0] if self._keys else b""
        signature = sign(_signed_message(timestamp, payload), key)
        return payload, {HEADER: f"t={timestamp},v1={signature}"}

    def _check_signature(self, headers: Headers, payload: bytes) -> None:
        timestamps = header_values(headers, HEADER, prefix="t=")
        signatures = header_values(headers, HEADER, prefix="v1=")
        for timestamp in timestamps:
            if is_signed(_signed_message(timestamp, payload), signatures, self._keys):
                check_timestamp(timestamp, self._tolerance)
                return
        raise InvalidSignature("mismatch")

    def _read(self, payload: bytes) -> Delivery:
        data = parse_json(payload)
        if not isinstance(data, dict):
            raise InvalidEvent("not an object")
        event_id = checked_text(data.get("id"), "id")
        event_type = checked_text(data.get("type"), "type")
        if data.get("livemode") is False and not self._allow_test_events:
            raise InvalidEvent("a test event, and STRIPE_ALLOW_TEST_EVENTS is not true")
        return Delivery(event_id, event_type, payload, data)


def _signed_message(timestamp: str, payload: bytes) -> bytes:
    return timestamp.encode() + b"." + payload
