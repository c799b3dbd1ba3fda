"""Webhooks that nobody signs: what fits a model is believed.

Whoever can reach this endpoint can make events up, so keep it on a private network.
"""

import hashlib
import json
from typing import Annotated, Any

from fastapi import Request, status
from pydantic import BaseModel, BeforeValidator, ValidationError

from app.events import Delivery, checked_text, parse_json
from app.webhooks.body import read_body
from app.webhooks.refusals import InvalidEvent, Refused
from app.webhooks.verifier import Verifier, identify


def _check_text(value: object) -> str:
    try:
        return checked_text(value, "text")
    except InvalidEvent as refusal:
        raise ValueError(refusal.reason) from None


Text = Annotated[str, BeforeValidator(_check_text)]
"""A string or a whole number: 1 to 255 printable characters."""


class WebhookEvent(BaseModel):
    """The body of a request. It may have other fields, too: `event.data` has them all."""

    id: Text
    """The id of the event, not of what it is about: two with the same id are one event.

    If the sender has none, write `Text | None = None`: the SHA-256 of the body then stands in, and
    events with the same body are the same event.
    """
    type: Text
    data: dict[str, Any]


class InvalidBody(Refused):
    """422: the body does not fit the model. The answer has FastAPI's usual details."""

    def __init__(self, details: Any) -> None:
        status_code = status.HTTP_422_UNPROCESSABLE_CONTENT
        super().__init__(status_code, details, "the body does not fit the model")


class Unsigned(Verifier):
    """Accepts what fits a model.

    Args:
        model: It has the fields `id` and `type`, and those that your handler relies on.

    Raises:
        SystemExit: it lacks one of the two.
    """

    provider = "unsigned"
    warning = "no signature is verified here: let only senders that you trust reach it"

    def __init__(self, model: type[BaseModel] = WebhookEvent) -> None:
        for name in ("id", "type"):
            if name not in model.model_fields:
                raise SystemExit(f"app/endpoints.py: {model.__name__} needs a field {name!r}")
        self.model: type[BaseModel] = model

    async def __call__(self, request: Request) -> Delivery:
        """Return the event of a request whose body fits the model.

        Raises:
            InvalidBody: it does not.
        """
        payload = await read_body(request)
        data: Any = None
        try:
            data = parse_json(payload)
            return self._read(payload, data)
        except InvalidEvent as error:
            refusal = InvalidBody([{"type": "invalid", "loc": ["body"], "msg": error.reason}])
        except ValidationError as error:
            refusal = InvalidBody(_details(error))
        event_id = data.get("id") if isinstance(data, dict) else None
        refusal.add_note(identify(payload, event_id))
        raise refusal

    def _read(self, payload: bytes, data: Any) -> Delivery:
        event: Any = self.model.model_validate(data)
        digest = hashlib.sha256(payload).hexdigest()
        event_id = checked_text(str(event.id or digest), "id")
        event_type = checked_text(str(event.type), "type")
        return Delivery(event_id, event_type, payload, data)

    def sample(
        self, data: dict[str, Any], event_id: str, event_type: str
    ) -> tuple[bytes, dict[str, str]]:
        """Return the body as a sender would send `data`, and no headers."""
        event = data | {"id": event_id, "type": event_type}
        return json.dumps(event, indent=2, ensure_ascii=False).encode(), {}


def _details(error: ValidationError) -> list[dict[str, Any]]:
    """Return what does not fit, as FastAPI does, but without quoting the body."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return [{**problem, "loc": ["body", *problem["loc"]]} for problem in problems]
