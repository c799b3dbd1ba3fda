"""Webhooks of Shopify: https://shopify.dev/docs/apps/build/webhooks/verify-deliveries.

    X-Shopify-Hmac-SHA256: XWmrwMey6OsLMeiZKwP4FppHH3cmAiiJJAweH5Jo4bM=
    X-Shopify-Topic: orders/paid
    X-Shopify-Event-Id: 98880550-7158-44d4-b7cd-2c97c8a091b5

The HMAC-SHA256 of the body, in base64. Only the body is signed, and no time.
"""

import json
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers

from app.events import Delivery, checked_text, parse_json
from app.settings import Secrets
from app.webhooks.body import read_body
from app.webhooks.refusals import InvalidEvent, InvalidSignature
from app.webhooks.signatures import header_values, is_signed, sign
from app.webhooks.verifier import Verifier, identify, keep_headers

HEADER = "X-Shopify-Hmac-SHA256"
TOPIC_HEADER = "X-Shopify-Topic"
SHOP_HEADER = "X-Shopify-Shop-Domain"
VERSION_HEADER = "X-Shopify-API-Version"
EVENT_HEADER = "X-Shopify-Event-Id"
DELIVERY_HEADER = "X-Shopify-Webhook-Id"
TIME_HEADER = "X-Shopify-Triggered-At"

KEPT_HEADERS = (
    TOPIC_HEADER,
    SHOP_HEADER,
    VERSION_HEADER,
    EVENT_HEADER,
    DELIVERY_HEADER,
    TIME_HEADER,
)


class Shopify(Verifier):
    """Accepts what Shopify signed with one of the secrets, the client secrets of an app.

    The topic is the event's type. `event.headers` has the rest of what only headers say.
    """

    provider = "shopify"

    def __init__(self, secrets: Secrets) -> None:
        self.secrets = secrets
        self._keys = [secret.encode() for secret in secrets]

    async def __call__(self, request: Request) -> Delivery:
        """Return the event of a request that Shopify signed."""
        payload = await read_body(request)
        signatures = header_values(request.headers, HEADER)
        if not is_signed(payload, signatures, self._keys, encoding="base64"):
            raise InvalidSignature("mismatch")
        try:
            return _read(request.headers, payload)
        except InvalidEvent as refusal:
            delivery_id = request.headers.get(DELIVERY_HEADER, "").strip()
            refusal.add_note(identify(payload, delivery_id))
            raise

    def sample(
        self, data: dict[str, Any], event_id: str, event_type: str
    ) -> tuple[bytes, dict[str, str]]:
        """Return body and headers as Shopify would send `data` now.

        The id is that of the delivery, because a test should find the event under the id it chose.
        """
        payload = json.dumps(data, indent=2, ensure_ascii=False).encode()
        key = self._keys[0] if self._keys else b""
        return payload, {
            HEADER: sign(payload, key, encoding="base64"),
            TOPIC_HEADER: event_type,
            SHOP_HEADER: "example-shop.myshopify.com",
            VERSION_HEADER: "2026-10",
            DELIVERY_HEADER: event_id,
        }


def _read(headers: Headers, payload: bytes) -> Delivery:
    data = parse_json(payload)
    if not isinstance(data, dict):
        raise InvalidEvent("not an object")
    topic = checked_text(headers.get(TOPIC_HEADER, "").strip(), "type")
    event_id = checked_text(_find_id(headers, topic), "id")
    kept = keep_headers(headers, KEPT_HEADERS)
    return Delivery(event_id, topic, payload, data, kept)


def _find_id(headers: Headers, topic: str) -> str:
    """Return the event's id with the topic, or else the delivery's id; "" if there is none.

    What one action of a merchant causes may arrive under several topics with one event id.
    """
    event_id = headers.get(EVENT_HEADER, "").strip()
    if event_id:
        return f"{event_id}:{topic}"
    return headers.get(DELIVERY_HEADER, "").strip()
