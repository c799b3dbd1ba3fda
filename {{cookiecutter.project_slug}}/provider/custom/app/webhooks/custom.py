"""Webhooks signed with an HMAC of the body, in the way that you agreed on with the sender.

    X-Signature: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17

If the sender signs a timestamp, too, the message is `<timestamp>.<body>`, or what the setting says.
If the sender signs nothing, but sends the secret itself, the algorithm is `token`.
"""

import hashlib
import hmac
import json
import re
import time
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import (
    AfterValidator,
    PositiveInt,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.datastructures import Headers

from app.events import Delivery, checked_text, parse_json
from app.settings import ENV_FILE, Secrets
from app.webhooks.body import read_body
from app.webhooks.refusals import InvalidEvent, InvalidSignature
from app.webhooks.signatures import (
    Algorithm,
    Encoding,
    check_timestamp,
    header_values,
    is_signed,
    sign,
)
from app.webhooks.verifier import Verifier, identify

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
BODY_DIGEST = "sha256"


def _check_header(name: str) -> str:
    if name and not HEADER_NAME.fullmatch(name):
        raise PydanticCustomError(
            "header", "this is not the name of a header: write it without a colon, like X-Signature"
        )
    return name


def _check_place(place: str) -> str:
    where, _, name = place.partition(":")
    in_header = where == "header" and HEADER_NAME.fullmatch(name)
    in_body = where == "json" and re.fullmatch(r"\S+", name)
    if not in_header and not in_body:
        raise PydanticCustomError(
            "place", "this names no place: use header:X-Event, or json:meta.event for a field"
        )
    return place


def _check_id_place(place: str) -> str:
    return place if place == BODY_DIGEST else _check_place(place)


def _check_message(message: str) -> str:
    if message.count("{timestamp}") != 1 or message.count("{body}") != 1:
        raise PydanticCustomError(
            "message", "this is not the signed message: write it with {timestamp} and {body}"
        )
    return message


HeaderName = Annotated[str, AfterValidator(_check_header)]
Place = Annotated[str, AfterValidator(_check_place)]
IdPlace = Annotated[str, AfterValidator(_check_id_place)]
Message = Annotated[str, AfterValidator(_check_message)]
Prefix = Annotated[str, StringConstraints(strip_whitespace=True)]


class CustomSettings(BaseSettings):
    """How the sender signs, and where it puts id and type: `header` is `CUSTOM_WEBHOOK_HEADER`."""

    model_config = SettingsConfigDict(
        env_prefix="CUSTOM_WEBHOOK_", env_file=ENV_FILE, env_ignore_empty=True, extra="ignore"
    )

    header: HeaderName = "X-Signature"
    prefix: Prefix = ""
    """What stands before each signature in the header, such as `sha256=`."""
    algorithm: Literal[Algorithm, "token"] = "sha256"
    """The hash of the HMAC. `token`: nothing is signed, and the header has the secret itself."""
    encoding: Encoding = "hex"

    timestamp_header: HeaderName = ""
    """The header with the time of signing, in seconds since the epoch. Empty: none is signed."""
    timestamp_prefix: Prefix = ""
    """What stands before the time, such as `t=`, if it shares a header with the signature."""
    message: Message = "{timestamp}.{body}"
    """What is signed, if a time is."""
    tolerance_seconds: PositiveInt = 300
    """By how much a timestamp may differ from this host's clock."""

    id: IdPlace = "json:id"
    """Where the event's id is: `header:X-Event-Id`, `json:meta.id` for a field of the body, or
    `sha256` if there is none. Events with the same body are then the same event."""
    type: Place = "json:type"
    """Where the event's type is: in a header, or in a field of the body."""

    @field_validator("timestamp_header")
    @classmethod
    def _refuse_time_beside_token(cls, header: str, info: ValidationInfo) -> str:
        if header and info.data.get("algorithm") == "token":
            raise PydanticCustomError("token", "a token signs no time: leave this empty")
        return header


class Custom(Verifier):
    """Accepts what was signed with one of the secrets, in the way that the settings describe."""

    provider = "custom"

    def __init__(self, secrets: Secrets, settings: CustomSettings) -> None:
        self.secrets = secrets
        self._keys = [secret.encode() for secret in secrets]
        self._settings = settings

    async def __call__(self, request: Request) -> Delivery:
        """Return the event of a request that the sender signed."""
        payload = await read_body(request)
        self._check_signature(request.headers, payload)
        try:
            return self._read(request.headers, payload)
        except InvalidEvent as refusal:
            refusal.add_note(self._identify(request.headers, payload))
            raise

    def sample(
        self, data: dict[str, Any], event_id: str, event_type: str
    ) -> tuple[bytes, dict[str, str]]:
        """Return body and headers as the sender would send `data` now."""
        event = json.loads(json.dumps(data))
        headers: dict[str, str] = {}
        _put(self._settings.id, event_id, headers, event)
        _put(self._settings.type, event_type, headers, event)
        payload = message = json.dumps(event, indent=2, ensure_ascii=False).encode()
        values = []
        if self._settings.timestamp_header:
            timestamp = str(int(time.time()))
            message = self._message(timestamp, payload)
            timed = self._settings.timestamp_prefix + timestamp
            if self._settings.timestamp_header == self._settings.header:
                values.append(timed)
            else:
                headers[self._settings.timestamp_header] = timed
        values.append(self._settings.prefix + self._sign(message))
        headers[self._settings.header] = ",".join(values)
        return payload, headers

    def _sign(self, message: bytes) -> str:
        key = self._keys[0] if self._keys else b""
        if self._settings.algorithm == "token":
            return key.decode()
        return sign(message, key, self._settings.algorithm, self._settings.encoding)

    def _check_signature(self, headers: Headers, payload: bytes) -> None:
        signatures = header_values(headers, self._settings.header, self._settings.prefix)
        if not self._settings.timestamp_header:
            if self._is_signed(payload, signatures):
                return
            raise InvalidSignature("mismatch")
        prefix = self._settings.timestamp_prefix
        for timestamp in header_values(headers, self._settings.timestamp_header, prefix):
            if self._is_signed(self._message(timestamp, payload), signatures):
                check_timestamp(timestamp, self._settings.tolerance_seconds)
                return
        raise InvalidSignature("mismatch")

    def _is_signed(self, message: bytes, signatures: list[str]) -> bool:
        algorithm, encoding = self._settings.algorithm, self._settings.encoding
        if algorithm == "token":
            return _is_one_of(self._keys, signatures)
        return is_signed(message, signatures, self._keys, algorithm, encoding)

    def _message(self, timestamp: str, payload: bytes) -> bytes:
        """Return what is signed together with a time."""
        parts = self._settings.message.split("{body}")
        before, after = (part.replace("{timestamp}", timestamp).encode() for part in parts)
        return before + payload + after

    def _read(self, headers: Headers, payload: bytes) -> Delivery:
        data = parse_json(payload)
        if not isinstance(data, dict):
            raise InvalidEvent("not an object")
        event_type = checked_text(_find(self._settings.type, headers, data), "type")
        if self._settings.id == BODY_DIGEST:
            # Events of two types may have the same body, if the type is in a header.
            event_id = hashlib.sha256(event_type.encode() + b"\n" + payload).hexdigest()
        else:
            event_id = checked_text(_find(self._settings.id, headers, data), "id")
        return Delivery(event_id, event_type, payload, data)

    def _identify(self, headers: Headers, payload: bytes) -> str:
        data: Any = None
        with suppress(InvalidEvent):
            data = parse_json(payload)
        return identify(payload, _find(self._settings.id, headers, data))


def _is_one_of(keys: list[bytes], values: list[str]) -> bool:
    """Tell whether one of the values is one of the secrets, in constant time."""
    for key in keys:
        for value in values:
            if hmac.compare_digest(value.encode(), key):
                return True
    return False


def _find(place: str, headers: Headers, data: Any) -> object:
    where, _, name = place.partition(":")
    if where == "header":
        return headers.get(name, "").strip()
    for key in name.split("."):
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _put(place: str, value: str, headers: dict[str, str], data: dict[str, Any]) -> None:
    where, _, name = place.partition(":")
    if where == "header":
        headers[name] = value
    elif where == "json":
        *parents, key = name.split(".")
        for parent in parents:
            data = data.setdefault(parent, {})
        data[key] = value
