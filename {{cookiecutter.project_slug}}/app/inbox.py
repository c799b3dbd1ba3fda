"""The inbox: takes every event in, gives it out to be attempted, and records how that ended."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from itertools import chain, islice
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.commits import BATCH, GroupCommit
from app.config import settings
from app.database import connect, is_sqlite, now
from app.events import Event, LeaseLost
from app.models import Claim, Key, inbox, is_pending

WINDOW = 500  # messages that a process may make before some are claimed: a backlog waits here
State = Literal["pending", "done", "dead"]
LEASE_SECONDS = settings.handler_timeout_seconds + settings.ack_deadline_seconds


class Inbox:
    """The inbox as one process sees it. Its methods raise `StoreUnavailable`."""

    def __init__(self, pause: float = 0) -> None:
        gc.freeze()  # what is imported stays: to go through it all takes 50 ms, time and again
        sys.setswitchinterval(0.0002)  # seconds; a thread that commits would wait 5 ms for its turn
        engine, self.engine = connect()
        self._lock = asyncio.Lock()
        self._commits = GroupCommit(engine, self._lock, pause, *_ORDER)
        self._queued: set[Key] = set()  # of the messages, those not known to be claimed
        self.arrived = asyncio.Event()
        """Set when there may be more to hand over; the relay waits for it, and clears it."""

    async def close(self) -> None:
        """Wait for what is being written, and disconnect."""
        await self._commits.close()
        await self.engine.dispose()

    async def add(self, event: Event) -> bool:
        """Keep an event for good; False if it is here already.

        Raises `TimeoutError` after `ACK_DEADLINE_SECONDS`: it may yet be kept.
        """
        async with asyncio.timeout(settings.ack_deadline_seconds):
            new: bool = await self._commits.submit(_add, event)
        if new:
            self.arrived.set()
        return new

    def claim_due(self, limit: int) -> asyncio.Future[list[Claim]]:
        """Claim up to `limit` due events, to attempt them in this process."""
        return self._commits.submit(_claim_due, limit)

    def claim(self, key: Key) -> asyncio.Future[Claim | None]:
        """Claim the event that a queue message names; None if the message is spent."""
        return self._commits.submit(_claim, key)

    @asynccontextmanager
    async def handover(self) -> AsyncIterator[list[Key]]:
        """Take due events for the queue, if it has room; if putting them there fails, return them.

        Those that no worker claims are due again later, the later the older they are.
        """
        if len(self._queued) >= WINDOW:
            self._queued = await self._commits.submit(_unclaimed, self._queued)
            # Unless workers have claimed many, let them; then look again.
            await asyncio.sleep(0.2 if len(self._queued) > WINDOW - BATCH else 0)
            self.arrived.set()
        keys = await self._commits.submit(_hand_over, min(BATCH, WINDOW - len(self._queued)))
        try:
            yield keys
        except BaseException:
            await asyncio.gather(*(self._commits.submit(_return, key) for key in keys))
            raise
        self._queued.update(keys)

    def finish(
        self, key: Key, state: State, delay: float = 0, error: str | None = None, refund: int = 0
    ) -> asyncio.Future[bool]:
        """Record how an attempt ended; False if its lease was lost, and nothing recorded.

        A pending event is due again after `delay` seconds, with `refund` attempts given back.
        """
        if state == "done":
            return self._commits.submit(_complete, key)
        return self._commits.submit(_finish, _end(key, state, delay, error, refund))

    @asynccontextmanager
    async def transaction(self, key: Key) -> AsyncIterator[AsyncConnection]:
        """Mark the event done in one transaction with what is done inside, or raise `LeaseLost`."""
        async with self._lock if is_sqlite else nullcontext(), self.engine.begin() as connection:
            if (await connection.execute(_end(key, "done", 0, None, 0))).rowcount != 1:
                raise LeaseLost
            yield connection
            # After an error that the handler ignored, PostgreSQL would roll back at the commit.
            await connection.execute(sa.select(1))


_row = f"({'?, ?, ?, ?' if is_sqlite else '%s, %s, %s, %s'}, {settings.max_attempts})"
_insert = "INSERT INTO inbox (provider, event_id, type, payload, attempt_limit) VALUES {rows}"
_insert += " ON CONFLICT (event_id, provider) DO NOTHING RETURNING provider, event_id"


def _add(connection: sa.Connection, events: list[Event]) -> list[bool]:
    # Made by hand, for SQLAlchemy takes as long as the database does. A key that is taken otherwise
    # than by this event, as by a sequence that was set back, is an error and not a duplicate.
    # In one order in every process, or two batches with the same events could deadlock.
    unique = {(event.provider, event.id): event for event in reversed(events)}
    rows = [(*key, unique[key].type, unique[key].payload) for key in sorted(unique)]
    statement = _insert.format(rows=", ".join([_row] * len(rows)))
    added = connection.exec_driver_sql(statement, tuple(chain.from_iterable(rows)))
    new = {id(unique[provider, event_id]) for provider, event_id in added}
    return [id(event) in new for event in events]


# The events that are longest due, less those that another process is taking.
_due = sa.select(inbox.c.id).where(inbox.c.due_at <= now).order_by(inbox.c.due_at)
_due = _due.limit(sa.bindparam("limit", type_=sa.Integer)).with_for_update(skip_locked=True)
# PostgreSQL may evaluate a subquery more than once, with another outcome, but not a CTE.
_is_due = inbox.c.id.in_(_due if is_sqlite else sa.select(_due.cte("due").c.id))
# The events whose latest attempts these are, locked in one order in every process.
_key = (inbox.c.id, inbox.c.attempts)
_is_latest = sa.tuple_(*_key).in_(sa.bindparam("keys", expanding=True))
_is_named = inbox.c.id.in_(sa.bindparam("ids", expanding=True))
_latest = sa.select(inbox.c.id).where(_is_named, _is_latest, is_pending).order_by(inbox.c.id)

# Not all leases alike: events that their process died with are not to be claimed together again,
# or one that kills it would in the end have killed them all.
_lease = LEASE_SECONDS * (1 + inbox.c.id % (inbox.c.attempts % 8 + 7) / 32.0)
_take = sa.update(inbox).values(attempts=inbox.c.attempts + 1, due_at=now + _lease)
_take = _take.returning(*(inbox.c[name] for name in Claim._fields))
_take_due = _take.where(_is_due)
_take_named = _take.where(inbox.c.id.in_(_latest.with_for_update(skip_locked=True)))
# What is handed over is due again after HANDOVER_SECONDS and its age, in all 10 times that at most.
# For some events that is up to twice as long, lest all that a broker lost comes again at one time.
# While more is left of it than its age less HANDOVER_SECONDS, those are not over either: a message
# counts that long (a very old one twice as long). If it is not claimed by then, it may be lost.
_first, _age = settings.handover_seconds * (1 + inbox.c.id % 64 / 64.0), now - inbox.c.received_at
_age = sa.case((_age < 0, 0), (_age < 9 * _first, _age), else_=9 * _first)
_queue = sa.update(inbox).where(_is_due).values(due_at=now + _first + _age).returning(*_key)
_waiting = sa.select(*_key).where(_is_named, inbox.c.due_at - now > _age - _first)
_each_latest = sa.update(inbox).where(inbox.c.id.in_(_latest.with_for_update())).returning(*_key)


def _end(key: Key, state: State, delay: float, error: str | None, refund: int) -> sa.Update:
    latest = (inbox.c.id == key.id, inbox.c.attempts == key.attempts, is_pending)
    times = {"due_at": now + delay} if state == "pending" else {"due_at": None, "finished_at": now}
    what = {"error": error or inbox.c.error, "attempt_limit": inbox.c.attempt_limit + refund}
    return sa.update(inbox).where(*latest).values(state=state, **times, **what)


def _claim_due(connection: sa.Connection, limits: list[int]) -> list[list[Claim]]:
    claims = map(Claim._make, connection.execute(_take_due, {"limit": sum(limits)}))
    return [list(islice(claims, limit)) for limit in limits]


def _claim(connection: sa.Connection, keys: list[Key]) -> list[Claim | None]:
    rows = connection.execute(_take_named, _named(keys))
    claims = {Key(row.id, row.attempts - 1): Claim._make(row) for row in rows}
    return [claims.pop(key, None) for key in keys]


def _hand_over(connection: sa.Connection, limits: list[int]) -> list[list[Key]]:
    return [[Key(*row) for row in connection.execute(_queue, {"limit": n})] for n in limits]


def _which(statement: sa.Executable, connection: sa.Connection, keys: list[Key]) -> list[bool]:
    rows = {Key(*row) for row in connection.execute(statement, _named(keys))}
    return [key in rows for key in keys]


_complete = partial(_which, _each_latest.values(state="done", due_at=None, finished_at=now))
_return = partial(_which, _each_latest.values(due_at=now))


def _unclaimed(connection: sa.Connection, windows: list[set[Key]]) -> list[set[Key]]:
    return [{Key(*r) for r in connection.execute(_waiting, _named(list(w)))} & w for w in windows]


def _named(keys: list[Key]) -> dict[str, list[Any]]:
    return {"keys": keys, "ids": [key.id for key in keys]}


def _finish(connection: sa.Connection, ends: list[sa.Update]) -> list[bool]:
    return [connection.execute(end).rowcount == 1 for end in ends]


# In a transaction no row is waited for once another was claimed, or two processes could deadlock.
_ORDER = (_add, _complete, _finish, _return, _claim, _claim_due, _unclaimed, _hand_over)
