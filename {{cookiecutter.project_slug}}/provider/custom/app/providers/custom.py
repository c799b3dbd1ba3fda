"""Webhooks signed with an HMAC (RFC 2104) over the raw body, in the way your sender does it."""

import hashlib
import hmac
import time
from base64 import b64encode
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import PositiveInt, StringConstraints

from app.config import Secrets, Settings, load, require
from app.events import Event, Malformed, Unauthorized, name, parse_json

Place = Annotated[str, StringConstraints(pattern=r"^(header|json):\S+$")]
"""Where a value stands: `header:X-Event-Type`, or `json:meta.type` for a field in the body."""


class CustomSettings(Settings):
    """How the sender signs, and where it puts what we need to know."""

    custom_webhook_secret: Secrets = ()
    custom_webhook_header: str = "X-Signature"
    custom_webhook_algorithm: Literal["sha256", "sha512", "sha1"] = "sha256"
    custom_webhook_encoding: Literal["hex", "base64"] = "hex"
    custom_webhook_prefix: str = ""
    custom_webhook_timestamp_header: str = ""
    custom_webhook_tolerance_seconds: PositiveInt = 300
    custom_webhook_id: Place = "json:id"
    custom_webhook_type: Place = "json:type"


settings = load(CustomSettings)
secrets = require("CUSTOM_WEBHOOK_SECRET", settings.custom_webhook_secret, "ask the sender for it")


async def verify(request: Request) -> Event:
    """Return the event of a request that was signed with one of the secrets."""
    payload = await request.body()
    # Headers are latin-1: compared as bytes, one that is not ASCII is wrong, not an error.
    given = request.headers.get(settings.custom_webhook_header, "").encode("latin-1")
    if not given:
        raise Unauthorized("missing")
    header = settings.custom_webhook_timestamp_header
    timestamp = request.headers.get(header, "") if header else None
    if not (timestamp is None or (timestamp.isdecimal() and len(timestamp) < 16)):
        raise Unauthorized("malformed")
    if not any(hmac.compare_digest(given, sign(payload, s, timestamp).encode()) for s in secrets):
        raise Unauthorized("mismatch")
    age = 0 if timestamp is None else time.time() - int(timestamp)
    if abs(age) > settings.custom_webhook_tolerance_seconds:
        raise Unauthorized("stale" if age > 0 else "future")
    data = parse_json(payload)
    if not isinstance(data, dict):
        raise Malformed("not an object")
    type = name(_find(settings.custom_webhook_type, request, data), "type")
    if (id := _find(settings.custom_webhook_id, request, data)) is None:
        # Two events may have the same body, if their types stand in a header.
        head = type.encode() if settings.custom_webhook_type.startswith("header:") else b""
        id = hashlib.sha256(head + payload).hexdigest()
    return Event("custom", name(id, "id"), type, payload, data)


def sign(payload: bytes, secret: str, timestamp: str | None = None) -> str:
    """Return the signature of `payload`, preceded by `timestamp` and a dot where there is one."""
    signed = payload if timestamp is None else timestamp.encode() + b"." + payload
    mac = hmac.digest(secret.encode(), signed, settings.custom_webhook_algorithm)
    text = mac.hex() if settings.custom_webhook_encoding == "hex" else b64encode(mac).decode()
    return settings.custom_webhook_prefix + text


def _find(place: str, request: Request, data: Any) -> object:
    if place.startswith("header:"):
        return request.headers.get(place.removeprefix("header:"))
    for key in place.removeprefix("json:").split("."):
        data = data.get(key) if isinstance(data, dict) else None
    return data
