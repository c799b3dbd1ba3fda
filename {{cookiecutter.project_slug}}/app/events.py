"""A verified webhook: a `Delivery` on its way in, an `Event` in its handler."""

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
    """A webhook whose sender was verified, as a verifier returns it."""

    id: str
    """The sender's id for the event: the same in every delivery."""
    type: str
    payload: bytes = field(repr=False)
    """The body, byte for byte as it was signed."""
    data: Any = field(repr=False)
    """The parsed body."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The request headers to store: only those that the verifier picks."""


class Then(Protocol):
    """The type of `event.then`."""

    def __call__(
        self, event_type: str, data: Any, *, endpoint: str = "", key: str = ""
    ) -> Awaitable[str]:
        """See `Event.then`."""


@dataclass(frozen=True, slots=True)
class Event:
    """A stored event, as a handler receives it."""

    endpoint: str
    """The name of the endpoint that received it, as in `app/endpoints.py`."""
    id: str
    """The sender's id: the same in every delivery and attempt, so it can be an idempotency key."""
    type: str
    payload: bytes = field(repr=False)
    """The body, byte for byte as it was signed."""
    data: Any = field(repr=False)
    """The body as the endpoint's verifier parses it, by default as JSON; None if that fails."""
    headers: Mapping[str, str] = field(repr=False)
    """The stored headers of the first delivery, under the names that the verifier uses."""
    transaction: Callable[[], AbstractAsyncContextManager[AsyncConnection]] = field(repr=False)
    """`async with event.transaction() as db:` yields a SQLAlchemy connection.

    Its commit also marks the event as done, so what you write takes effect exactly once.
    A handler may open one transaction. On SQLite it may stay open for 2 seconds, because all
    writers wait for it.

    Raises:
        LeaseLost: another attempt has taken over; nothing was committed.
        StoreUnavailable: the database did not open the transaction.
    """
    then: Then = field(repr=False)
    """`await event.then("receipt.send", {"amount": 1999})` adds a follow-up event to the inbox.

    Call it in the transaction's block: the follow-up is stored in the same commit. It has attempts
    of its own.

    Args:
        event_type: The follow-up's type.
        data: Its data: anything that JSON can represent.
        endpoint: The endpoint whose handler receives it; by default, that of this event.
        key: Tells it from this event's other follow-ups of the same type, which are numbered by
            default. A replay of this event does not add a second follow-up with the same key.

    Returns:
        The follow-up's id, made of this event's endpoint and id, and of its own type and key.

    Raises:
        RuntimeError: the transaction is not open.
        LookupError: there is no such endpoint.
        TypeError, ValueError: the type, the data or the key cannot be used.
    """


class Permanent(Exception):
    """Raised by a handler: no further attempt would help, so the event is dead at once.

        raise Permanent("the order does not exist")

    The reason is stored with the traceback. `python -m app replay` still works.
    """


class RetryAfter(Exception):
    """Raised by a handler: the event is due again after `seconds`.

        raise RetryAfter(30)

    It counts as a failed attempt. The wait is at most `RETRY_CAP_SECONDS`.

    Args:
        seconds: How long to wait, without jitter. 0 means at once.
        reason: Why. It is stored with the error.

    Raises:
        TypeError: `seconds` is not a number.
        ValueError: `seconds` is negative, infinite or NaN.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            kind = type(seconds).__name__
            raise TypeError(f"RetryAfter takes a number of seconds, not {kind}")
        if not 0 <= seconds < math.inf:
            raise ValueError(f"RetryAfter takes seconds from 0 up, not {seconds}")
        message = f"in {seconds} s"
        super().__init__(f"{message}: {reason}" if reason else message)
        self.seconds = seconds


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_json(payload: bytes) -> Any:
    """Parse a body as strict JSON (RFC 8259).

    Raises:
        InvalidEvent: not UTF-8, not JSON, nested too deeply, or with NaN or an overlong number.
    """
    try:
        return _decoder.decode(payload.decode())
    except (ValueError, RecursionError):
        raise InvalidEvent("not JSON") from None


def checked_text(value: object, what: str) -> str:
    """Return an event's id or type as text that every database can store and every log can show.

    Args:
        value: A string, or a whole number.
        what: Its name in the log, such as "id".

    Raises:
        InvalidEvent: the value is missing, empty, longer than 255 characters, or not printable.
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
