"""What a verified webhook is: a `Delivery` on its way in, an `Event` in a handler."""

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

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


class Then(Protocol):
    """What `event.then` is."""

    def __call__(
        self, event_type: str, data: Any, *, endpoint: str = "", key: str = ""
    ) -> Awaitable[str]:
        """See `Event.then`."""


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
    """The body as the endpoint's verifier parses it, by default as JSON; None if it cannot."""
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
    then: Then = field(repr=False)
    """`await event.then("receipt.send", {"amount": 1999})` in the transaction's block.

    It puts an event of the service's own into the inbox, in the same commit, to be handled with
    attempts of its own.

    Args:
        event_type: Its type.
        data: Its data, as JSON can have it.
        endpoint: The endpoint whose handler is given it; by default, that of this event.
        key: What tells it from others of this type that follow from this event. By default, they
            are numbered. A replay of this event does not repeat one that has the same key.

    Returns:
        Its id, which is made of this event's endpoint and id, its type and its key.

    Raises:
        RuntimeError: the transaction is not open.
        LookupError: there is no such endpoint.
        TypeError, ValueError: type, data or key cannot be used.
    """


class Permanent(Exception):
    """Raised by a handler: no further attempt would help, so the event is dead at once.

        raise Permanent("the order does not exist")

    The reason is stored with the traceback. `python -m app replay` still works.
    """


class RetryAfter(Exception):
    """Raised by a handler: the event is due again after so many seconds.

        raise RetryAfter(30)

    It counts as a failed attempt. The wait is at most `RETRY_CAP_SECONDS`.

    Args:
        seconds: How long to wait, without jitter. 0 means at once.
        reason: Why, for whoever reads the stored error.

    Raises:
        TypeError: it is not a number.
        ValueError: it is negative, infinite or NaN.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            kind = type(seconds).__name__
            raise TypeError(f"RetryAfter takes a number of seconds, not {kind}")
        if not 0 <= seconds < math.inf:
            raise ValueError(f"RetryAfter takes seconds from 0 up, not {seconds}")
        because = f": {reason}" if reason else ""
        super().__init__(f"in {seconds} s{because}")
        self.seconds = seconds


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_json(payload: bytes) -> Any:
    """Parse a body as strict JSON (RFC 8259).

    Raises:
        InvalidEvent: not UTF-8, not JSON, nested too deeply, or with NaN or too long a number.
    """
    try:
        return _decoder.decode(payload.decode())
    except (ValueError, RecursionError):
        raise InvalidEvent("not JSON") from None


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
