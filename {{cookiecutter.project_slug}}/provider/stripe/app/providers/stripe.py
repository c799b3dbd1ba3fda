"""Stripe's webhooks: https://docs.stripe.com/webhooks#verify-manually."""

import time

from fastapi import Request
from stripe import SignatureVerificationError, WebhookSignature

from app.config import Secrets, Settings, load, require
from app.events import Event, Malformed, Unauthorized, name, parse_json

HEADER = "Stripe-Signature"
TOLERANCE = 300  # seconds, either way


class StripeSettings(Settings):
    """The secrets of the endpoint."""

    stripe_webhook_secret: Secrets = ()


secrets = require(
    "STRIPE_WEBHOOK_SECRET",
    load(StripeSettings).stripe_webhook_secret,
    "copy it from the endpoint's page in the Stripe dashboard (Signing secret, whsec_...)",
)


async def verify(request: Request) -> Event:
    """Return the event of a request that Stripe signed with one of the secrets."""
    payload = await request.body()
    header = request.headers.get(HEADER)
    if not header:
        raise Unauthorized("missing")
    if not any(_signed(payload, header, secret) for secret in secrets):
        raise Unauthorized("mismatch")
    # The SDK's own tolerance refuses the past only.
    age = int(time.time()) - _timestamp(header)
    if abs(age) > TOLERANCE:
        raise Unauthorized("stale" if age > 0 else "future")
    data = parse_json(payload)
    if not isinstance(data, dict):
        raise Malformed("not an object")
    id, type = name(data.get("id"), "id"), name(data.get("type"), "type")
    return Event("stripe", id, type, payload, data)


def _signed(payload: bytes, header: str, secret: str) -> bool:
    try:
        WebhookSignature.verify_header(payload, header, secret)
    except (SignatureVerificationError, TypeError, ValueError):
        return False  # the latter two where it cannot compare (non-ASCII) or decode (not UTF-8)
    return True


def _timestamp(header: str) -> int:
    """The time of a header that the SDK has accepted, in seconds since the epoch."""
    parts = (part.split("=", 2) for part in header.split(","))
    return next(int(part[1]) for part in parts if part[0] == "t")
