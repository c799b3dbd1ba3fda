"""Webhooks that nobody signs: what fits the model is taken for true.

Whoever can reach this endpoint can make events up. Keep it on a private network.
"""

import hashlib
import logging
from typing import Any

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.events import NAME_LENGTH, Event, Malformed, name, parse_json

logging.getLogger(__name__).warning(
    "/webhooks/unsigned verifies no signature: let only trusted senders reach it"
)

ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {},
    401: {},
    422: {"description": "The body is not JSON, or does not fit `WebhookEvent`."},
}


class WebhookEvent(BaseModel):
    """The body of a request. Fields that are not named here are kept."""

    model_config = ConfigDict(extra="allow")

    id: str | None = Field(None, min_length=1, max_length=NAME_LENGTH)
    """Without one, the SHA-256 of the body stands in, so that a repeated body is one event."""
    type: str = Field(min_length=1, max_length=NAME_LENGTH)
    data: dict[str, Any]


async def verify(request: Request) -> Event:
    """Return the event of a request whose body fits `WebhookEvent`; answer 422 to any other."""
    payload = await request.body()
    try:
        data = parse_json(payload)
        event = WebhookEvent.model_validate(data)
        id = name(event.id or hashlib.sha256(payload).hexdigest(), "id")
        return Event("unsigned", id, name(event.type, "type"), payload, data)
    except Malformed as error:
        raise HTTPException(422, str(error)) from error
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False, include_input=False)
        raise HTTPException(422, detail) from error
