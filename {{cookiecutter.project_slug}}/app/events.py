"""What a verified webhook is, and why one is turned away."""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic_core import from_json
from sqlalchemy.ext.asyncio import AsyncConnection

NAME_LENGTH = 255  # characters of an event's id and of its type


class Unauthorized(Exception):
    """The signature does not prove who sent this. The text is for the log, not for the sender."""


class Malformed(Exception):
    """The sender is who it should be, but this is no event: not JSON, or without id or type."""


class LeaseLost(Exception):
    """Another attempt has taken this event over, or it is finished: nothing was committed."""


Transaction = Callable[[], AbstractAsyncContextManager[AsyncConnection]]


def _outside_processing() -> NoReturn:
    raise RuntimeError("only an event that is being handled has a transaction")


@dataclass(frozen=True, slots=True)
class Event:
    """A webhook whose signature was verified."""

    provider: str
    id: str
    """The provider's id: the same for every delivery and every attempt, so an idempotency key."""
    type: str
    payload: bytes = field(repr=False)
    """The body, byte for byte as it was signed."""
    data: Any = field(repr=False)
    """The body as parsed JSON."""
    transaction: Transaction = field(default=_outside_processing, repr=False, compare=False)
    """`async with event.transaction() as db:` commits what is done with the SQLAlchemy connection
    `db` together with the event's being done, or not at all: exactly once. Raises `LeaseLost`."""


def parse_json(payload: bytes) -> Any:
    """Parse a body as strict JSON (RFC 8259).

    Raises:
        Malformed: not JSON, nested too deeply, or with NaN or a number too long to be one.
    """
    with suppress(ValueError):
        return from_json(payload, allow_inf_nan=False)
    # That is twice as fast, but takes no escaped half of a pair of surrogates, which JSON allows.
    try:
        return json.loads(payload.decode(), parse_constant=int)  # which NaN is not
    except (ValueError, RecursionError) as error:
        raise Malformed("not JSON") from error


def name(value: object, what: str) -> str:
    """Return an event's id or type as text that every database can store and every log can show.

    Raises:
        Malformed: missing, too long, or with characters that do not print.
    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not 0 < len(text) <= NAME_LENGTH or not text.isprintable():
        raise Malformed(f"no usable {what}")
    return text
