"""What a verified webhook is: a `Delivery` on its way in, an `Event` in a handler."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sqlalchemy.ext.asyncio import AsyncConnection

from app.webhooks.refusals import InvalidEvent

MAX_TEXT_LENGTH = 255  # characters of an event's id and of its type


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook whose sender was verified. This is what a verifier returns."""

    id: str
    """The sender's id of the event: the same for every delivery of it."""
    type: str
    payload: bytes = field(repr=False)
    """The body, byte for byte as it was signed."""
    data: Any = field(repr=False)
    """The parsed body."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What to keep of the request's headers: those that the verifier names, and no others."""


@dataclass(frozen=True, slots=True)
class Event:
    """A stored event. This is what a handler is given."""

    endpoint: str
    """The name of the endpoint that received it, as `app/endpoints.py` has it."""
    id: str
    """The sender's id: the same for every delivery and every attempt, so an idempotency key."""
    type: str
    payload: bytes = field(repr=False)
    """The body, byte for byte as it was signed."""
    data: Any = field(repr=False)
    """The parsed body; None if it is not JSON."""
    headers: Mapping[str, str] = field(repr=False)
    """What was kept of the first delivery's headers, by the names that the verifier uses."""
    transaction: Callable[[], AbstractAsyncContextManager[AsyncConnection]] = field(repr=False)
    """`async with event.transaction() as db:` yields a SQLAlchemy connection.

    Its writes are committed together with the event's being done, or not at all: exactly once.
    A handler may open one transaction. On SQLite it may stay open for 2 seconds, because all
    writers wait for it.

    Raises:
        LeaseLost: another attempt has taken over; nothing was committed.
        StoreUnavailable: the database did not open the transaction.
    """


def parse_json(payload: bytes) -> Any:
    """Parse a body as strict JSON (RFC 8259).

    Raises:
        InvalidEvent: not UTF-8, not JSON, nested too deeply, or with NaN or too long a number.
    """
    try:
        return json.loads(payload.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidEvent("not JSON") from None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def checked_text(value: object, what: str) -> str:
    """Return an event's id or type as text that every database can store and every log can show.

    Args:
        value: A string, or a whole number.
        what: What it is, for the log.

    Raises:
        InvalidEvent: missing, empty, longer than 255 characters, or not printable.
    """
    is_number = isinstance(value, int) and not isinstance(value, bool)
    text = str(value) if is_number else value
    if not isinstance(text, str) or not text:
        raise InvalidEvent(f"no {what}")
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidEvent(f"{what} longer than {MAX_TEXT_LENGTH} characters")
    if not text.isprintable():
        raise InvalidEvent(f"{what} with characters that do not print")
    return text
