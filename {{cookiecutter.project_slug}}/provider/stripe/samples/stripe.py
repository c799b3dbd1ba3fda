"""How Stripe sends: https://docs.stripe.com/webhooks#verify-manually."""

import json
from typing import Any

from stripe import WebhookSignature

from app.providers.stripe import HEADER, secrets


def sign(payload: bytes, secret: str, timestamp: int | None = None) -> str:
    """Return the signature header that Stripe would send with this body, now or at `timestamp`."""
    text = payload.decode()
    return str(WebhookSignature.generate_signature_header(text, secret, timestamp))


def deliver(data: dict[str, Any], id: str, type: str) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a delivery of `data`, signed with the first secret."""
    payload = json.dumps({**data, "id": id, "type": type}, indent=2, ensure_ascii=False).encode()
    return payload, {HEADER: sign(payload, next(iter(secrets), ""))}
