"""What the schemes have in common: an HMAC (RFC 2104) in a header, and perhaps a timestamp.

Input that is malformed raises `InvalidSignature`, and never anything else.
"""

import hmac
import re
import time
from base64 import b64encode
from collections.abc import Iterable
from typing import Literal

from starlette.datastructures import Headers

from app.webhooks.refusals import InvalidSignature

MAX_VALUES = 10  # of one header: whoever is not authentic makes us compute no more

Algorithm = Literal["sha256", "sha512", "sha1"]
Encoding = Literal["hex", "base64"]


def header_values(headers: Headers, name: str, prefix: str = "") -> list[str]:
    """Return each value of a header that follows a prefix such as `sha256=`.

    While secrets rotate there are several, separated by commas, semicolons or blanks, or in header
    fields of their own. Blanks around a value do not belong to it (RFC 9110, section 5.5).

    Raises:
        InvalidSignature: there is no such value, or more than any sender sends.
    """
    fields = headers.getlist(name)
    if not "".join(fields).strip():
        raise InvalidSignature("missing")
    begins = r"(?<![^ \t,;])"  # after nothing, a blank, a comma or a semicolon
    blanks = r"[ \t]*" if prefix else ""
    pattern = rf"{begins}{re.escape(prefix)}{blanks}([^ \t,;]+)"
    values: list[str] = []
    for field in fields:
        values += re.findall(pattern, field)
    if not values or len(values) > MAX_VALUES:
        raise InvalidSignature("malformed")
    return values


def single_value(headers: Headers, name: str) -> str:
    """Return the only value of a header, without the blanks around it.

    Raises:
        InvalidSignature: it is missing, or there are several: which of them is signed?
    """
    fields = headers.getlist(name)
    if not "".join(fields).strip():
        raise InvalidSignature("missing")
    if len(fields) > 1:
        raise InvalidSignature("malformed")
    return fields[0].strip()


def sign(
    message: bytes, key: bytes, algorithm: Algorithm = "sha256", encoding: Encoding = "hex"
) -> str:
    """Return the HMAC of a message, as text."""
    mac = hmac.digest(key, message, algorithm)
    return mac.hex() if encoding == "hex" else b64encode(mac).decode()


def is_signed(
    message: bytes,
    signatures: Iterable[str],
    keys: Iterable[bytes],
    algorithm: Algorithm = "sha256",
    encoding: Encoding = "hex",
) -> bool:
    """Tell whether one of the signatures was made with one of the keys, in constant time.

    Args:
        signatures: Values of a header. Hexadecimal digits may be in upper case.
    """
    for key in keys:
        expected = sign(message, key, algorithm, encoding).encode()
        for signature in signatures:
            text = signature.lower() if encoding == "hex" else signature
            # As bytes, because text that is not ASCII would be an error instead of wrong.
            if hmac.compare_digest(text.encode(), expected):
                return True
    return False


def check_timestamp(timestamp: str, tolerance: float) -> None:
    """Refuse a timestamp that differs from now by more than the tolerance, in seconds.

    Args:
        timestamp: Seconds since the epoch, in digits. Check first that it is signed.

    Raises:
        InvalidSignature: it is stale, from the future, or no timestamp at all.
    """
    is_number = timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16
    if not is_number:
        raise InvalidSignature("malformed")
    age = time.time() - int(timestamp)
    if age > tolerance:
        raise InvalidSignature("stale")
    if age < -tolerance:
        raise InvalidSignature("future")
