"""The inbox: takes every event in, gives it out to be attempted, and records how that ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.commits import GroupCommit
from app.config import settings
from app.database import connect, insert, is_sqlite, now
from app.events import Event, LeaseLost
from app.models import Claim, Key, inbox, is_pending

LEASE_SECONDS = settings.handler_timeout_seconds + settings.ack_deadline_seconds
LONGEST_HANDOVER = 20  # times `handover_seconds`


class Inbox:
    """The inbox as one process sees it. Its methods raise `StoreUnavailable`."""

    def __init__(self) -> None:
        engine, self.engine = connect()
        self._lock = asyncio.Lock()
        self._commits = GroupCommit(engine, self._lock)
        self.arrived = asyncio.Event()
        """Set when an event was added; the relay waits for it, and clears it."""

    async def close(self) -> None:
        """Wait for what is being written, and disconnect."""
        await self._commits.close()
        await self.engine.dispose()

    async def add(self, event: Event) -> bool:
        """Keep an event for good; False if it is here already."""
        new = await self._commits.submit(_add, event)
        if new:
            self.arrived.set()
        return new

    async def claim_due(self, limit: int) -> list[Claim]:
        """Claim up to `limit` due events, to attempt them in this process."""
        return await self._commits.submit(_claim_due, limit)

    async def claim(self, key: Key) -> Claim | None:
        """Claim the event that a queue message names; None if the message is spent."""
        return await self._commits.submit(_claim, key)

    @asynccontextmanager
    async def handover(self, limit: int) -> AsyncIterator[list[Key]]:
        """Take up to `limit` due events for the queue; if putting them there fails, return them.

        Those that no worker claims are due again when their age has doubled.
        """
        keys = await self._commits.submit(_hand_over, limit)
        try:
            yield keys
        except BaseException:
            await asyncio.gather(*(self.finish(key, "pending", delay=0) for key in keys))
            raise

    async def finish(
        self,
        key: Key,
        state: Literal["pending", "done", "dead"],
        *,
        delay: float | None = None,
        error: str | None = None,
        refund: int = 0,
    ) -> bool:
        """Record how an attempt ended; False if its lease was lost, and nothing recorded.

        A pending event is due again after `delay` seconds, with `refund` attempts given back.
        """
        end = _end_of(key, state) | {"delay": delay, "new_error": error, "refund": refund}
        return await self._commits.submit(_finish, end)

    @asynccontextmanager
    async def transaction(self, key: Key) -> AsyncIterator[AsyncConnection]:
        """Mark the event done in one transaction with what is done inside, or raise `LeaseLost`."""
        turn = self._lock if is_sqlite else nullcontext()
        async with turn, self.engine.begin() as connection:
            if (await connection.execute(_end, _end_of(key, "done"))).rowcount != 1:
                raise LeaseLost
            yield connection


def _add(connection: sa.Connection, events: list[Event]) -> list[bool]:
    # In one order in every process, or two batches with the same events could deadlock.
    unique = {(event.provider, event.id): event for event in events}
    rows = [
        {"provider": provider, "event_id": id, "type": event.type, "payload": event.payload}
        for (provider, id), event in sorted(unique.items(), key=lambda item: item[0])
    ]
    statement = insert(inbox).on_conflict_do_nothing()
    added = connection.execute(statement.returning(inbox.c.provider, inbox.c.event_id), rows)
    new = {tuple(row) for row in added}
    return [(event.provider, event.id) in new for event in events]


def _due(limit: int) -> sa.ColumnElement[bool]:
    """Choose the events that are longest due, passing over those that others are taking."""
    due = sa.select(inbox.c.id).where(inbox.c.due_at <= now).order_by(inbox.c.due_at).limit(limit)
    return inbox.c.id.in_(sa.select(due.with_for_update(skip_locked=True).cte("due").c.id))


_is_latest = sa.and_(
    inbox.c.id == sa.bindparam("key_id"), inbox.c.attempts == sa.bindparam("made"), is_pending
)
_take = sa.update(inbox).values(attempts=inbox.c.attempts + 1, due_at=now + LEASE_SECONDS)
_take = _take.returning(*(inbox.c[name] for name in Claim._fields))
_age = now - inbox.c.received_at
_shortest, _longest = settings.handover_seconds, settings.handover_seconds * LONGEST_HANDOVER
_wait = sa.case((_age < _shortest, _shortest), (_age > _longest, _longest), else_=_age)
_queue = sa.update(inbox).values(due_at=now + _wait).returning(inbox.c.id, inbox.c.attempts)
_end = sa.update(inbox).where(_is_latest)
_end = _end.values(
    state=sa.bindparam("new_state"),
    due_at=now + sa.bindparam("delay", None, sa.Double),
    finished_at=sa.case((sa.bindparam("new_state") != "pending", now)),
    error=sa.func.coalesce(sa.bindparam("new_error", None, sa.Text), inbox.c.error),
    attempt_limit=inbox.c.attempt_limit + sa.bindparam("refund", 0, sa.Integer),
)


def _end_of(key: Key, state: str) -> dict[str, Any]:
    return {"key_id": key.id, "made": key.attempts, "new_state": state}


def _claim_due(connection: sa.Connection, limits: list[int]) -> list[list[Claim]]:
    return [[Claim(*row) for row in connection.execute(_take.where(_due(n)))] for n in limits]


def _claim(connection: sa.Connection, keys: list[Key]) -> list[Claim | None]:
    held = [key.id for key in _held(connection, keys)]
    rows = connection.execute(_take.where(inbox.c.id.in_(held)))
    claims = {Key(row.id, row.attempts - 1): Claim(*row) for row in rows}
    return [claims.pop(key, None) for key in keys]


def _hand_over(connection: sa.Connection, limits: list[int]) -> list[list[Key]]:
    return [[Key(*row) for row in connection.execute(_queue.where(_due(n)))] for n in limits]


def _finish(connection: sa.Connection, ends: list[dict[str, Any]]) -> list[bool]:
    keys = [Key(end["key_id"], end["made"]) for end in ends]
    held = _held(connection, keys)
    if held:
        connection.execute(_end, [end for end, key in zip(ends, keys, strict=True) if key in held])
    return [key in held for key in keys]


def _held(connection: sa.Connection, keys: list[Key]) -> set[Key]:
    """Lock the rows of the keys that still are the latest, in one order in every process."""
    rows = sa.select(inbox.c.id, inbox.c.attempts).where(is_pending).order_by(inbox.c.id)
    rows = rows.where(inbox.c.id.in_([key.id for key in keys])).with_for_update()
    return {Key(*row) for row in connection.execute(rows)} & set(keys)
