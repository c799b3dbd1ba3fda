"""How senders sign, written from their documentation and without a line of the projects'."""

import hashlib
import hmac
import os
import re
import time
import zlib
from dataclasses import dataclass

CURRENT, PREVIOUS = "current-1f0c5e77", "previous-9b24d3a0"
TOLERANCE = 300  # seconds, either way

Header = tuple[bytes, bytes]


def mac(secret: str, timestamp: bytes, body: bytes) -> bytes:
    return hmac.new(secret.encode(), timestamp + b"." + body, hashlib.sha256).hexdigest().encode()


@dataclass(frozen=True)
class Sender:
    """A provider as seen from outside."""

    name: str
    environment: dict[str, str]
    timestamp: str
    """Where the time stands that is signed, as a pattern of the headers; empty if none is."""

    def sign(self, body: bytes, secret: str = CURRENT, timestamp: bytes = b"") -> list[Header]:
        at = timestamp or b"%d" % time.time()
        signature = b"v1=" + mac(secret, at, body)
        match self.name:
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
        return any(each in lines for each in right)


SECRETS = f"{CURRENT},{PREVIOUS}"
SENDERS = {
    "stripe": Sender("stripe", {"STRIPE_WEBHOOK_SECRET": SECRETS}, r"\bt=\s*(\d{1,15})"),
    "custom": Sender(
        "custom",
        {
            "CUSTOM_WEBHOOK_SECRET": SECRETS,
            "CUSTOM_WEBHOOK_PREFIX": "v1=",
            "CUSTOM_WEBHOOK_TIMESTAMP_HEADER": "X-Timestamp",
        },
        r"(?i)X-Timestamp:\s*(\d{1,15})",
    ),
    "unsigned": Sender("unsigned", {}, ""),
}


if "SCHEMATHESIS_HOOKS" in os.environ:  # this module is what it loads there
    import schemathesis
    from requests import PreparedRequest

    def authenticate(request: PreparedRequest) -> PreparedRequest:
        """Sign the examples and most of the rest, for nothing else would be let in."""
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        assert isinstance(body, bytes)
        if b'"id"' in body or zlib.crc32(body) % 4:
            for name, value in SENDERS[os.environ["SENDER"]].sign(body):
                request.headers[name.decode()] = value.decode()
        return request

    @schemathesis.hook
    def before_call(_context: object, _case: object, kwargs: dict[str, object]) -> None:
        kwargs["auth"] = authenticate
