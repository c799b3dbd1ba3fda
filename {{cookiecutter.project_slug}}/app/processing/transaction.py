"""The one transaction that a handler may open, and the follow-up events that it adds."""

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from sqlalchemy.ext.asyncio import AsyncConnection

from app.events import MAX_TEXT_LENGTH, checked_text
from app.inbox import statements
from app.inbox.inbox import Claim, Inbox
from app.webhooks.endpoint import Endpoints
from app.webhooks.refusals import InvalidEvent


class HandlerTransaction:
    """`event.transaction()`, with `event.then()` in it."""

    def __init__(self, inbox: Inbox, endpoints: Endpoints, claim: Claim) -> None:
        self._inbox = inbox
        self._endpoints = endpoints
        self._claim = claim
        self._opened = False
        self._connection: AsyncConnection | None = None
        self._follow_ups: set[tuple[str, str]] = set()
        self._numbers: Counter[tuple[str, str]] = Counter()
        self.committed = False

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[AsyncConnection]:
        """Yield the connection, and commit at the end of the block."""
        if self._opened:
            raise RuntimeError("a handler may open one transaction, and this one has done so")
        self._opened = True
        async with self._inbox.transaction(self._claim) as connection:
            self._connection = connection
            try:
                yield connection
            finally:
                self._connection = None
        self.committed = True
        if self._follow_ups:
            self._inbox.wake.set()

    async def then(self, event_type: str, data: Any, *, endpoint: str = "", key: str = "") -> str:
        """Add a follow-up event, and return its id: see `Event.then`."""
        if self._connection is None:
            raise RuntimeError("event.then() belongs into `async with event.transaction()`")
        receiver = endpoint or self._claim.endpoint
        if receiver not in self._endpoints:
            raise LookupError(f"app/endpoints.py has no endpoint {receiver!r} for {event_type!r}")
        event_id = self._new_id(receiver, _checked(event_type), key)
        follow_up = {
            "endpoint": receiver,
            "event_id": event_id,
            "event_type": event_type,
            "payload": json.dumps(data, allow_nan=False).encode(),
        }
        await self._connection.execute(statements.ADD_FOLLOW_UP, follow_up)
        return event_id

    def _new_id(self, receiver: str, event_type: str, key: str) -> str:
        """Return a follow-up's id: the same in every attempt, and different from any other."""
        parts = [quote(self._claim.endpoint), quote(self._claim.event_id, safe="")]
        parts.append(quote(event_type, safe=""))
        if key:
            parts.append(quote(key, safe=""))
        else:
            self._numbers[receiver, event_type] += 1
            number = self._numbers[receiver, event_type]
            if number > 1:
                parts.append(f":{number}")  # no key looks like this: a colon in it is quoted
        event_id = "/".join(parts)
        if len(event_id) > MAX_TEXT_LENGTH:
            event_id = f"then/{hashlib.sha256(event_id.encode()).hexdigest()}"
        if (receiver, event_id) in self._follow_ups:
            raise ValueError(f"event.then() was given the key {key!r} twice for {event_type!r}")
        self._follow_ups.add((receiver, event_id))
        return event_id


def _checked(event_type: str) -> str:
    try:
        return checked_text(event_type, "type")
    except InvalidEvent as error:
        raise ValueError(f"event.then(): {error.reason}") from None
