"""Stripe's signature, checked by hand as in the snippets that people copy."""

import hashlib
import hmac
import os
import time

SECRET = os.environ["STRIPE_WEBHOOK_SECRET"].encode()
TOLERANCE_SECONDS = 300


def is_right(header: str, payload: bytes) -> bool:
    parts = dict(part.split("=", 1) for part in header.split(","))
    signed = parts["t"].encode() + b"." + payload
    expected = hmac.new(SECRET, signed, hashlib.sha256).hexdigest()
    is_fresh = abs(time.time() - int(parts["t"])) < TOLERANCE_SECONDS
    return is_fresh and hmac.compare_digest(expected, parts["v1"])
