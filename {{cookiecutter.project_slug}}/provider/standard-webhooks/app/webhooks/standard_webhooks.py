"""Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks, in `spec/`.

    webhook-id: msg_2KWPBgLlAfxdpx2AI54pPJ85f4W
    webhook-timestamp: 1674087231
    webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4= v1a,hnO3f9T8Ytu9HwrX…

`v1` is the HMAC-SHA256 of id, timestamp and body, joined with dots, in base64. `v1a` is their
Ed25519 signature. Svix calls the headers `svix-id` and so on.
"""

import json
import time
from base64 import b64decode
from contextlib import suppress
from typing import Any

import cryptography.exceptions
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import Request
from starlette.datastructures import Headers

from app.events import Delivery, checked_text, parse_json
from app.settings import Secrets
from app.webhooks.body import read_body
from app.webhooks.refusals import InvalidEvent, InvalidSignature
from app.webhooks.signatures import (
    check_timestamp,
    header_values,
    is_signed,
    sign,
    single_value,
)
from app.webhooks.verifier import Verifier, identify

NAMES = "webhook"
SVIX_NAMES = "svix"
TOLERANCE_SECONDS = 300
SECRET_PREFIX = "whsec_"  # noqa: S105
PUBLIC_KEY_PREFIX = "whpk_"


class StandardWebhooks(Verifier):
    """Accepts what was signed with one of the secrets, or with a private key of one of them.

    Args:
        secrets: `whsec_…`, or the same without its prefix, and public keys, `whpk_…`.
        tolerance: By how many seconds a timestamp may differ from this host's clock.
    """

    provider = "standard-webhooks"

    def __init__(self, secrets: Secrets, *, tolerance: int = TOLERANCE_SECONDS) -> None:
        self.secrets = secrets
        self._tolerance = tolerance
        self._keys: list[bytes] = []
        self._public_keys: list[Ed25519PublicKey] = []
        self._unusable = 0
        for secret in secrets:
            try:
                self._add_key(secret)
            except ValueError:
                self._unusable += 1

    def _add_key(self, secret: str) -> None:
        if secret.startswith(PUBLIC_KEY_PREFIX):
            raw = _decode(secret.removeprefix(PUBLIC_KEY_PREFIX))
            self._public_keys.append(Ed25519PublicKey.from_public_bytes(raw))
        else:
            self._keys.append(_decode(secret.removeprefix(SECRET_PREFIX)))

    def problem(self) -> str:
        """Return why the secrets cannot be used in production; "" if they can."""
        problem = super().problem()
        if not problem and self.secrets and self._unusable:
            problem = (
                f"{self.secrets.variable} has a value that is not whsec_ and base64,"
                f" or whpk_ and 32 bytes in base64: {self.secrets.remedy}"
            )
        return problem

    async def __call__(self, request: Request) -> Delivery:
        """Return the event of an authentic request."""
        payload = await read_body(request)
        event_id = self._check_signature(request.headers, payload)
        try:
            return _read(event_id, payload)
        except InvalidEvent as refusal:
            refusal.add_note(identify(payload, event_id))
            raise

    def sample(
        self, data: dict[str, Any], event_id: str, event_type: str
    ) -> tuple[bytes, dict[str, str]]:
        """Return body and headers as the sender would send `data` now.

        They are signed with the first secret that is not a public key.
        """
        payload = json.dumps(data | {"type": event_type}, indent=2, ensure_ascii=False).encode()
        timestamp = str(int(time.time()))
        key = self._keys[0] if self._keys else b""
        signature = sign(_message(event_id, timestamp, payload), key, encoding="base64")
        return payload, {
            f"{NAMES}-id": event_id,
            f"{NAMES}-timestamp": timestamp,
            f"{NAMES}-signature": f"v1,{signature}",
        }

    def _check_signature(self, headers: Headers, payload: bytes) -> str:
        """Return the id of an authentic message."""
        names = NAMES if f"{NAMES}-signature" in headers else SVIX_NAMES
        event_id = single_value(headers, f"{names}-id")
        timestamp = single_value(headers, f"{names}-timestamp")
        message = _message(event_id, timestamp, payload)
        if not self._is_authentic(message, headers, f"{names}-signature"):
            raise InvalidSignature("mismatch")
        check_timestamp(timestamp, self._tolerance)
        return event_id

    def _is_authentic(self, message: bytes, headers: Headers, name: str) -> bool:
        if not headers.get(name, "").strip():
            raise InvalidSignature("missing")
        with suppress(InvalidSignature):  # there is no such signature
            signatures = header_values(headers, name, prefix="v1,")
            if is_signed(message, signatures, self._keys, encoding="base64"):
                return True
        with suppress(InvalidSignature):
            signatures = header_values(headers, name, prefix="v1a,")
            return any(
                _is_signed_by(key, message, signature)
                for key in self._public_keys
                for signature in signatures
            )
        return False


def _read(event_id: str, payload: bytes) -> Delivery:
    data = parse_json(payload)
    if not isinstance(data, dict):
        raise InvalidEvent("not an object")
    event_type = checked_text(data.get("type"), "type")
    return Delivery(checked_text(event_id, "id"), event_type, payload, data)


def _message(event_id: str, timestamp: str, payload: bytes) -> bytes:
    return f"{event_id}.{timestamp}.".encode() + payload


def _is_signed_by(key: Ed25519PublicKey, message: bytes, signature: str) -> bool:
    try:
        key.verify(b64decode(signature, validate=True), message)
    except (ValueError, cryptography.exceptions.InvalidSignature):
        return False
    return True


def _decode(text: str) -> bytes:
    """Decode base64, with or without its padding.

    Raises:
        ValueError: it is something else, or nothing.
    """
    padding = "=" * (-len(text) % 4)
    decoded = b64decode(text + padding, validate=True)
    if not decoded:
        raise ValueError
    return decoded
