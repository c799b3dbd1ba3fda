"""hookspool's source for Stripe: how an event is verified, grouped and recognized."""

from typing import Any

from hookspool.plugin import Request, Secrets, dedup
from hookspool.plugin import verify as v

name = "stripe"
secrets = ("secret",)
auth_headers = ("Stripe-Signature",)
span = "immediate"
sender_retries = True


def verify(request: Request, secrets: Secrets) -> bool:
    header = request.header("Stripe-Signature")
    return v.timestamped(header, secrets["secret"], request.body, now=request.now)


def key(payload: dict[str, Any], request: Request) -> str:
    return str(payload["id"])


dedup_id = dedup.field("id")
