"""The request of a verified event, as a dependency of the FastAPI set-ups."""

import json
from typing import Annotated, Any

from fastapi import Depends, Header, HTTPException, Request
from signature import is_right


async def verified_event(
    request: Request, stripe_signature: Annotated[str, Header()]
) -> dict[str, Any]:
    """Return the parsed event of a request that Stripe signed."""
    payload = await request.body()
    if not is_right(stripe_signature, payload):
        raise HTTPException(401, "invalid signature")
    event: dict[str, Any] = json.loads(payload)
    return event


VerifiedEvent = Annotated[dict[str, Any], Depends(verified_event)]
