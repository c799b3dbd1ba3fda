"""How each provider signs, written from its documentation and without a line of the projects'."""

import hashlib
import hmac
import re
import time
from dataclasses import dataclass

CURRENT, PREVIOUS = "current-1f0c5e77", "previous-9b24d3a0"
SECRETS = f"{CURRENT},{PREVIOUS}"
TOLERANCE = 300  # seconds, either way

Header = tuple[bytes, bytes]


def mac(secret: str, timestamp: bytes, body: bytes) -> bytes:
    """Return the HMAC-SHA256 of timestamp, dot and body in hex."""
    return hmac.new(secret.encode(), timestamp + b"." + body, hashlib.sha256).hexdigest().encode()


@dataclass(frozen=True)
class Scheme:
    """A provider as seen from outside.

    Args:
        settings: Environment variables with which a service accepts it.
        timestamp: Where the signed time stands, as a pattern of the headers; "" if none is signed.
    """

    provider: str
    settings: dict[str, str]
    timestamp: str

    def sign(self, body: bytes, secret: str = CURRENT, timestamp: bytes = b"") -> list[Header]:
        at = timestamp or b"%d" % time.time()
        signature = b"v1=" + mac(secret, at, body)
        match self.provider:
            case "stripe":
                return [(b"Stripe-Signature", b"t=" + at + b"," + signature)]
            case "custom":
                return [(b"X-Timestamp", at), (b"X-Signature", signature)]
        return []

    def proves(self, headers: list[Header], body: bytes) -> bool:
        """Tell if headers hold a signature of this body and of a time that is about now."""
        if not self.timestamp:
            return True
        lines = b"\n".join(name + b": " + value for name, value in headers)
        times = {int(digits) for digits in re.findall(self.timestamp.encode(), lines)}
        fresh = [at for at in times if abs(time.time() - at) <= TOLERANCE + 60]
        right = {mac(secret, b"%d" % at, body) for at in fresh for secret in (CURRENT, PREVIOUS)}
        return any(each in lines.lower() for each in right)


SCHEMES = [
    Scheme("stripe", {"STRIPE_WEBHOOK_SECRET": SECRETS}, r"\bt=\s*(\d{1,15})"),
    Scheme(
        "custom",
        {
            "CUSTOM_WEBHOOK_SECRET": SECRETS,
            "CUSTOM_WEBHOOK_PREFIX": "v1=",
            "CUSTOM_WEBHOOK_TIMESTAMP_HEADER": "X-Timestamp",
        },
        r"(?i)X-Timestamp:.*?(\d{1,15})",
    ),
    Scheme("unsigned", {}, ""),
]
