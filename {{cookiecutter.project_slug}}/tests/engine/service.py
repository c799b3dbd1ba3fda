"""The service under test: a table, a verifier, a handler, an endpoint and an application."""

import asyncio
import hashlib
import hmac
import json
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, Request

from app.events import Delivery, Event, checked_text, parse_json
from app.settings import Secrets
from app.webhooks.body import read_body
from app.webhooks.endpoint import Endpoint, Handler
from app.webhooks.refusals import InvalidEvent, InvalidSignature
from app.webhooks.route import webhook_router
from app.webhooks.verifier import Verifier

URL = "/webhooks/test"
HEADER = "X-Test-Signature"
SECRETS = Secrets("TEST_WEBHOOK_SECRET", ("the-current-one", "the-previous-one"), "ask the sender")

effects = sa.Table("test_effects", sa.MetaData(), sa.Column("event_id", sa.Text, nullable=False))


class SharedSecret(Verifier):
    """Accepts requests that carry the HMAC of their body in hex."""

    provider = "test"

    def __init__(self, secrets: Secrets = SECRETS) -> None:
        self.secrets = secrets

    async def __call__(self, request: Request) -> Delivery:
        """Return the delivery of an authentic request."""
        payload = await read_body(request)
        given = request.headers.get(HEADER, "").encode()
        if not given:
            raise InvalidSignature("missing")
        expected = [_mac(payload, secret).encode() for secret in self.secrets or ()]
        if not any(hmac.compare_digest(given, each) for each in expected):
            raise InvalidSignature("mismatch")
        data = parse_json(payload)
        if not isinstance(data, dict):
            raise InvalidEvent("not an object")
        event_id = checked_text(data.get("id"), "id")
        event_type = checked_text(data.get("type"), "type")
        return Delivery(event_id, event_type, payload, data)

    def sample(
        self, data: dict[str, Any], event_id: str, event_type: str
    ) -> tuple[bytes, dict[str, str]]:
        """Return body and headers as the sender would send them."""
        payload = body(**data | {"id": event_id, "type": event_type})
        return payload, signed(payload)


async def handle(event: Event) -> None:
    """Leave a row behind, after as many seconds as the event says."""
    await asyncio.sleep(event.data.get("seconds", 0))
    async with event.transaction() as db:
        await db.execute(effects.insert().values(event_id=event.id))


def endpoint(handler: Handler = handle, name: str = "test") -> Endpoint:
    """Return an endpoint with this handler."""
    return Endpoint(name, verify=SharedSecret(), handler=handler)


def application(*endpoints: Endpoint, **options: Any) -> FastAPI:
    """Return an application with these endpoints; by default, with `endpoint()`."""
    app = FastAPI(**options)
    app.include_router(webhook_router(endpoints or [endpoint()]))
    return app


app = application()
"""For tests that start a process: `uvicorn tests.engine.service:app`."""


# What the sender sends


def body(**fields: object) -> bytes:
    """Return an event with some fields set, or left out if they are None."""
    event = {"id": "evt_1", "type": "test.happened", "data": {}} | fields
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


def signed(payload: bytes, secret: str = SECRETS.values[0]) -> dict[str, str]:
    """Return the headers of a request with this body."""
    return {HEADER: _mac(payload, secret)}


def delivery(event_id: str = "evt_1", event_type: str = "test.happened", **fields: Any) -> Delivery:
    """Return a delivery, as the verifier returns it."""
    payload = body(id=event_id, type=event_type, **fields)
    return Delivery(event_id, event_type, payload, json.loads(payload))


def _mac(payload: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
