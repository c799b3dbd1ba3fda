"""The inbox: stores every event, gives it out to be attempted, and records how that ended."""

import asyncio
import enum
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import is_sqlite
from app.events import Delivery
from app.inbox import sqlite_driver, statements
from app.inbox.connections import Connections
from app.inbox.engines import CONNECT_SECONDS, create_handlers_engine, is_temporary, unusable
from app.inbox.group_commit import GroupCommit, StoreUnavailable, describe
from app.inbox.write_lock import WriteLock
from app.settings import settings

QUEUE_WINDOW = 1000  # events that messages may refer to: the rest of a backlog waits in the inbox
DISPATCH_BATCH = 100  # events
CANCEL_SECONDS = 2  # for a handler to end that was cancelled
SQLITE_TRANSACTION_SECONDS = 2  # well below ACK_DEADLINE_SECONDS: all writers wait for it

LOCK_POLL_SECONDS = 0.01

logger = logging.getLogger(__name__)


class Added(enum.Enum):
    """What became of a delivery."""

    NEW = "new"
    DUPLICATE = "duplicate"
    OTHER_TYPE = "a duplicate of another type"
    OTHER_BODY = "a duplicate with another body"


class Reference(NamedTuple):
    """An event, and how often it was claimed: all that a queue message carries.

    A message is good for one attempt. Copies of it, and late ones, claim nothing.
    """

    id: int
    attempts: int


@dataclass(frozen=True)
class Claim:
    """The right to attempt an event, until its lease expires or a later attempt begins."""

    id: int
    attempts: int
    failures: int
    """This attempt and the failed ones since the event was received or replayed."""
    endpoint: str
    event_id: str
    event_type: str
    payload: bytes = field(repr=False)
    headers: str | None = field(repr=False)
    """A JSON object of what was kept of the request's headers."""

    def key(self) -> dict[str, object]:
        """Return the parameters by which statements find the event, if this is still valid."""
        return {"id": self.id, "attempts": self.attempts}


class LeaseLost(Exception):
    """Another attempt has taken over, or the event is finished: nothing was committed."""


class TransactionTooLong(Exception):
    """A handler's transaction on SQLite, for which all other writers wait, took too long."""

    def __init__(self) -> None:
        super().__init__(
            f"the transaction was open for {SQLITE_TRANSACTION_SECONDS} s, and on SQLite all"
            " writers wait for it: make calls to other services before you open it"
        )


class Inbox:
    """The inbox as one process sees it.

    Args:
        durable: Whether commits wait for the disk. They must where events are received. A worker
            receives none.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self._write_lock = WriteLock()
        self._commits = GroupCommit(OPERATIONS, self._write_lock, durable=durable)
        self._connections = Connections(create_handlers_engine())
        self.wake = asyncio.Event()
        """Set when there may be something to dispatch. The dispatcher clears it."""

    async def open(self) -> None:
        """Connect, and create the tables that are missing.

        A database that is away is only logged: it may come back.

        Raises:
            SystemExit: the database can be reached, but not used; the line says why.
        """
        try:
            async with asyncio.timeout(settings.ack_deadline_seconds):
                await self._commits.open()
        except TimeoutError:
            logger.error("DATABASE_URL: the database does not answer; trying again")
        except (DBAPIError, OSError, TypeError) as error:
            if not is_temporary(error):
                raise SystemExit(f"DATABASE_URL: {unusable(error)}") from None
            logger.error("DATABASE_URL: the database is away: %s; trying again", describe(error))

    async def close(self) -> None:
        """Wait for what is being committed, and disconnect."""
        await self._commits.close()
        await self._connections.close()

    async def add(self, endpoint: str, delivery: Delivery) -> Added:
        """Store an event for good, unless it is there already.

        Raises:
            StoreUnavailable: it was not committed within `ACK_DEADLINE_SECONDS`. It may be yet.
        """
        try:
            async with asyncio.timeout(settings.ack_deadline_seconds):
                added: Added = await self._commits.call(_add, (endpoint, delivery))
        except TimeoutError:
            raise StoreUnavailable("no commit within ACK_DEADLINE_SECONDS") from None
        if added is Added.NEW:
            self.wake.set()
        return added

    async def claim_due(self, limit: int) -> list[Claim]:
        """Claim up to `limit` due events, to attempt them in this process."""
        claims: list[Claim] = await self._commits.call(_claim_due, limit)
        return claims

    async def claim(self, reference: Reference) -> Claim | None:
        """Claim the event of a queue message; None if the message is good for no attempt."""
        claim: Claim | None = await self._commits.call(_claim_reference, reference)
        return claim

    async def dispatch_due(self) -> list[Reference]:
        """Mark due events as queued, and return what the messages have to carry.

        Messages of all processes together refer to about `QUEUE_WINDOW` events at most. Those that
        no worker has claimed within `REQUEUE_AFTER_SECONDS` are due again.
        """
        references: list[Reference] = await self._commits.call(_dispatch_due, None)
        return references

    async def undispatch(self, references: Sequence[Reference]) -> None:
        """Make events due at once whose messages could not be published."""
        calls = [self._commits.call(_undispatch, reference) for reference in references]
        await asyncio.gather(*calls)

    async def complete(self, claim: Claim) -> None:
        """Record that the event was handled."""
        await self._end(statements.COMPLETE, claim)

    async def retry(self, claim: Claim, delay: float, error: str) -> None:
        """Record a failed attempt: the event is due again after `delay` seconds."""
        await self._end(statements.RETRY, claim, delay=delay, error=error)

    async def bury(self, claim: Claim, error: str) -> None:
        """Record the last failed attempt: the event is dead."""
        await self._end(statements.BURY, claim, error=error)

    async def release(self, claim: Claim, delay: float = 0) -> None:
        """Give an attempt back, so that it does not count."""
        await self._end(statements.RELEASE, claim, delay=delay)
        self.wake.set()

    async def _end(self, statement: sa.TextClause, claim: Claim, **values: object) -> None:
        """Record how an attempt ended.

        Raises:
            LeaseLost: a later attempt has begun, and nothing was recorded.
        """
        if not await self._commits.call(_end, (statement, claim.key() | values)):
            raise LeaseLost

    @asynccontextmanager
    async def transaction(self, claim: Claim) -> AsyncIterator[AsyncConnection]:
        """Mark the event done in one transaction with what is done inside.

        Raises:
            LeaseLost: a later attempt has begun.
            StoreUnavailable: the transaction could not be opened.
            TransactionTooLong: on SQLite, it was open for more than 2 seconds.
        """
        async with self._turn(), self._begin(claim) as connection:
            if is_sqlite:
                async with _time_limit(connection):
                    yield connection
            else:
                yield connection
            await _check_open(connection)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until this process has no other writer on SQLite. PostgreSQL has no need of it."""
        if is_sqlite:
            async with self._write_lock.for_handler():
                yield
        else:
            yield

    @asynccontextmanager
    async def _begin(self, claim: Claim) -> AsyncIterator[AsyncConnection]:
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self._connections.transaction())
                is_latest = await _mark_done(connection, claim)
            except (OperationalError, InterfaceError, PoolTimeout, OSError) as error:
                raise StoreUnavailable(describe(error)) from error
            if not is_latest:
                raise LeaseLost
            yield connection


async def _mark_done(connection: AsyncConnection, claim: Claim) -> bool:
    """Mark the event done. On SQLite, wait for other processes to end their writes."""
    give_up_at = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            rows = await connection.exec_driver_sql(statements.COMPLETE_IN_TRANSACTION, claim.key())
            return rows.first() is not None
        except OperationalError as error:
            if not is_sqlite or not is_temporary(error) or time.monotonic() > give_up_at:
                raise
        await asyncio.sleep(LOCK_POLL_SECONDS)


@asynccontextmanager
async def _time_limit(connection: AsyncConnection) -> AsyncIterator[None]:
    raw = await connection.get_raw_connection()
    driver = cast("sqlite_driver.Connection", raw.driver_connection)
    driver.deadline = time.monotonic() + SQLITE_TRANSACTION_SECONDS
    limit = asyncio.timeout(SQLITE_TRANSACTION_SECONDS)
    try:
        async with limit:
            yield
    except (TimeoutError, OperationalError) as error:
        if limit.expired() or time.monotonic() >= driver.deadline:
            raise TransactionTooLong from error
        raise
    finally:
        driver.deadline = math.inf


async def _check_open(connection: AsyncConnection) -> None:
    """Raise if a commit would not commit what was done in the transaction."""
    if not connection.in_transaction():
        raise RuntimeError("the handler ended the transaction itself: leave that to `async with`")
    if not is_sqlite:
        raw = await connection.get_raw_connection()
        driver = cast("psycopg.AsyncConnection[Any]", raw.driver_connection)
        if driver.info.transaction_status == TransactionStatus.INERROR:
            raise RuntimeError("a statement failed, so PostgreSQL rolls the transaction back")


def _add(connection: sa.Connection, arguments: list[tuple[str, Delivery]]) -> list[Added]:
    # In one order in every process, or two batches with the same events could deadlock.
    first: dict[tuple[str, str], Delivery] = {}
    for endpoint, delivery in arguments:
        first.setdefault((endpoint, delivery.id), delivery)
    parameters: dict[str, object] = {}
    for number, (endpoint, event_id) in enumerate(sorted(first)):
        delivery = first[endpoint, event_id]
        parameters[f"endpoint_{number}"] = endpoint
        parameters[f"event_id_{number}"] = event_id
        parameters[f"event_type_{number}"] = delivery.type
        parameters[f"payload_{number}"] = delivery.payload
        headers = json.dumps(dict(delivery.headers)) if delivery.headers else None
        parameters[f"headers_{number}"] = headers
    rows = connection.execute(statements.add_events(len(first)), parameters)
    new = {(row.endpoint, row.event_id) for row in rows}

    added = []
    for endpoint, delivery in arguments:
        key = (endpoint, delivery.id)
        if key in new and first[key] is delivery:
            added.append(Added.NEW)
        else:
            added.append(_compare(connection, endpoint, delivery))
    return added


def _compare(connection: sa.Connection, endpoint: str, delivery: Delivery) -> Added:
    key = {"endpoint": endpoint, "event_id": delivery.id}
    stored = connection.execute(statements.FIND_EVENT, key).first()
    if stored is None or (stored.event_type, stored.payload) == (delivery.type, delivery.payload):
        return Added.DUPLICATE
    return Added.OTHER_BODY if stored.event_type == delivery.type else Added.OTHER_TYPE


def _claim_due(connection: sa.Connection, limits: list[int]) -> list[list[Claim]]:
    claims = []
    for limit in limits:
        rows = connection.execute(statements.CLAIM_DUE, {"limit": limit, "lease": lease_seconds()})
        claims.append([Claim(**row) for row in rows.mappings()])
    return claims


def _claim_reference(connection: sa.Connection, references: list[Reference]) -> list[Claim | None]:
    claims = []
    for reference in references:
        parameters = reference._asdict() | {"lease": lease_seconds()}
        row = connection.execute(statements.CLAIM_REFERENCE, parameters).mappings().first()
        claims.append(Claim(**row) if row else None)
    return claims


def _dispatch_due(connection: sa.Connection, calls: list[None]) -> list[list[Reference]]:
    dispatched = []
    for _ in calls:
        queued = connection.execute(statements.COUNT_QUEUED).scalar_one()
        limit = min(DISPATCH_BATCH, max(0, QUEUE_WINDOW - queued))
        parameters = {"limit": limit, "requeue_after": settings.requeue_after_seconds}
        rows = connection.execute(statements.DISPATCH_DUE, parameters)
        dispatched.append([Reference(row.id, row.attempts) for row in rows])
    return dispatched


def _undispatch(connection: sa.Connection, references: list[Reference]) -> list[None]:
    for reference in references:
        connection.execute(statements.UNDISPATCH, reference._asdict())
    return [None] * len(references)


def _end(
    connection: sa.Connection, calls: list[tuple[sa.TextClause, dict[str, object]]]
) -> list[bool]:
    return [connection.execute(*call).first() is not None for call in calls]


# A transaction waits for other sessions only while it inserts. So it holds nothing yet that
# others could wait for.
OPERATIONS = (_add, _end, _undispatch, _claim_reference, _claim_due, _dispatch_due)


def lease_seconds() -> float:
    """Return how long an attempt may take, its end included, until its process counts as dead."""
    return settings.handler_timeout_seconds + CANCEL_SECONDS + settings.ack_deadline_seconds
