"""How each provider signs, written from its documentation and without a line of the projects'."""

import base64
import hashlib
import hmac
import json
import re
import time
from dataclasses import dataclass
from urllib.parse import parse_qsl

CURRENT, PREVIOUS = "current-1f0c5e77", "previous-9b24d3a0"
SECRETS = f"{CURRENT},{PREVIOUS}"
TOLERANCE = 300  # seconds, either way

Header = tuple[bytes, bytes]


def mac(secret: str, timestamp: bytes, body: bytes) -> bytes:
    """Return the HMAC-SHA256 of timestamp, dot and body in hex."""
    return hmac.new(secret.encode(), timestamp + b"." + body, hashlib.sha256).hexdigest().encode()


def standard_mac(secret: str, event_id: bytes, timestamp: bytes, body: bytes) -> bytes:
    """Return the HMAC-SHA256 of id, timestamp and body in base64."""
    message = b".".join([event_id, timestamp, body])
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest())


def slack_mac(secret: str, timestamp: bytes, body: bytes) -> bytes:
    """Return the HMAC-SHA256 of version, timestamp and body in hex."""
    message = b":".join([b"v0", timestamp, body])
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest().encode()


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
            case "github":
                return self._sign_for_github(body, secret)
            case "shopify":
                return self._sign_for_shopify(body, secret)
            case "slack":
                return self._sign_for_slack(body, secret, at)
            case "linear":
                return self._sign_for_linear(body, secret)
            case "standard-webhooks":
                return self._sign_by_the_standard(body, secret, at)
            case "custom":
                return [(b"X-Timestamp", at), (b"X-Signature", signature)]
        return []

    def _sign_for_github(self, body: bytes, secret: str) -> list[Header]:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()
        return [
            (b"X-Hub-Signature-256", b"sha256=" + digest),
            (b"X-GitHub-Event", b"test"),
            (b"X-GitHub-Delivery", hashlib.sha256(body).hexdigest().encode()),
        ]

    def _sign_for_shopify(self, body: bytes, secret: str) -> list[Header]:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
        return [
            (b"X-Shopify-Hmac-SHA256", base64.b64encode(digest)),
            (b"X-Shopify-Topic", b"test/happened"),
            (b"X-Shopify-Webhook-Id", hashlib.sha256(body).hexdigest().encode()),
        ]

    def _sign_for_slack(self, body: bytes, secret: str, at: bytes) -> list[Header]:
        signature = b"v0=" + slack_mac(secret, at, body)
        return [(b"X-Slack-Request-Timestamp", at), (b"X-Slack-Signature", signature)]

    def _sign_for_linear(self, body: bytes, secret: str) -> list[Header]:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()
        delivery_id = hashlib.sha256(body).hexdigest().encode()
        return [(b"Linear-Signature", digest), (b"Linear-Delivery", delivery_id)]

    def complete(self, body: bytes) -> bytes:
        """Return a body with what this provider adds to each."""
        if self.provider == "linear" and body.startswith(b'{"'):
            return b'{"webhookTimestamp": %d, "action": "done", ' % (time.time() * 1000) + body[1:]
        return body

    def _sign_by_the_standard(self, body: bytes, secret: str, at: bytes) -> list[Header]:
        event_id = b"msg_" + hashlib.sha256(body).hexdigest().encode()
        return [
            (b"webhook-id", event_id),
            (b"webhook-timestamp", at),
            (b"webhook-signature", b"v1," + standard_mac(secret, event_id, at, body)),
        ]

    def event(self, headers: list[Header], body: bytes) -> tuple[str, str]:
        """Return id and type of the event in a request that was accepted."""
        sent = {name.lower(): value.decode("latin-1").strip() for name, value in reversed(headers)}
        if self.provider == "slack":
            return self._event_of_slack(body)
        data = json.loads(body)
        if self.provider == "github":
            parts = [sent[b"x-github-event"], data.get("action")]
            return sent[b"x-github-delivery"], ".".join(str(part) for part in parts if part)
        if self.provider == "shopify":
            return sent[b"x-shopify-webhook-id"], sent[b"x-shopify-topic"]
        if self.provider == "linear":
            return sent[b"linear-delivery"], f"{data['type']}.{data['action']}"
        if self.provider == "standard-webhooks":
            return sent[b"webhook-id"], str(data["type"])
        return str(data["id"]), str(data["type"])

    def _event_of_slack(self, body: bytes) -> tuple[str, str]:
        """Return what a request is that has neither an envelope nor a trigger: its digest."""
        fields = json.loads(body) if body.startswith(b"{") else dict(parse_qsl(body.decode(), True))
        return hashlib.sha256(body).hexdigest(), str(fields["type"])

    def proves(self, headers: list[Header], body: bytes) -> bool:
        """Tell if headers hold a signature of this body and of a time that is about now."""
        lines = b"\n".join(name + b": " + value for name, value in headers)
        if self.provider == "github":
            signed = [self._sign_for_github(body, secret)[0] for secret in (CURRENT, PREVIOUS)]
            digests = [value.removeprefix(b"sha256=") for _, value in signed]
            return any(digest in lines.lower() for digest in digests)
        if self.provider == "shopify":
            signed = [self._sign_for_shopify(body, secret)[0] for secret in (CURRENT, PREVIOUS)]
            return any(value in lines for _, value in signed)
        if self.provider == "linear":
            signed = [self._sign_for_linear(body, secret)[0] for secret in (CURRENT, PREVIOUS)]
            age = time.time() - json.loads(body)["webhookTimestamp"] / 1000
            return abs(age) <= TOLERANCE + 60 and any(value in lines.lower() for _, value in signed)
        if not self.timestamp:
            return True
        times = {int(digits) for digits in re.findall(self.timestamp.encode(), lines)}
        fresh = [at for at in times if abs(time.time() - at) <= TOLERANCE + 60]
        pairs = [(secret, b"%d" % at) for at in fresh for secret in (CURRENT, PREVIOUS)]
        if self.provider == "standard-webhooks":
            event_id = self.event(headers, body)[0].encode("latin-1")
            return any(standard_mac(secret, event_id, at, body) in lines for secret, at in pairs)
        make = slack_mac if self.provider == "slack" else mac
        right = {make(secret, at, body) for secret, at in pairs}
        return any(each in lines.lower() for each in right)


def encoded(secret: str) -> str:
    """Return a secret as Standard Webhooks writes it."""
    return f"whsec_{base64.b64encode(secret.encode()).decode()}"


SCHEMES = [
    Scheme("stripe", {"STRIPE_WEBHOOK_SECRET": SECRETS}, r"\bt=\s*(\d{1,15})"),
    Scheme("github", {"GITHUB_WEBHOOK_SECRET": SECRETS}, ""),
    Scheme("shopify", {"SHOPIFY_WEBHOOK_SECRET": SECRETS}, ""),
    Scheme(
        "slack",
        {"SLACK_WEBHOOK_SECRET": SECRETS},
        r"(?i)X-Slack-Request-Timestamp:.*?(\d{1,15})",
    ),
    Scheme(
        "standard-webhooks",
        {"STANDARD_WEBHOOKS_SECRET": ",".join(map(encoded, (CURRENT, PREVIOUS)))},
        r"(?i)webhook-timestamp:.*?(\d{1,15})",
    ),
    Scheme("linear", {"LINEAR_WEBHOOK_SECRET": SECRETS}, ""),
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
