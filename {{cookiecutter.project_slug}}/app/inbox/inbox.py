"""The inbox: stores every event, lets processes claim it, and records how attempts ended."""

import asyncio
import enum
import json
import logging
import math
import os
import socket
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
from app.inbox.engines import CONNECT_SECONDS, create_async_engine, is_temporary, unusable
from app.inbox.group_commit import GroupCommit, StoreUnavailable, describe
from app.inbox.slots import Rows, take_due
from app.inbox.write_lock import WriteLock
from app.schema import SchemaUnusable
from app.settings import settings
from app.webhooks.endpoint import Endpoint, Endpoints

QUEUE_WINDOW = 1000  # events that messages may refer to: the rest of a backlog waits in the inbox
DISPATCH_BATCH = 100  # events
CANCEL_SECONDS = 2  # for a cancelled handler to end
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
    """This attempt plus the failed ones since the event was received or replayed."""
    endpoint: str
    event_id: str
    event_type: str
    payload: bytes = field(repr=False)
    headers: str | None = field(repr=False)
    """The stored headers of the request, as a JSON object."""
    started_at: float
    """When it was claimed."""
    follows_lost: bool
    """Whether the attempt before it never ended."""

    def key(self) -> dict[str, object]:
        """Return the parameters by which statements find the event while the claim is valid."""
        return {"id": self.id, "attempts": self.attempts}


class Outcome(enum.StrEnum):
    """How an unsuccessful attempt ended."""

    FAILED = "failed"
    TIMED_OUT = "timed out"
    DEAD = "dead"
    RELEASED = "released"


@dataclass(frozen=True)
class Claimant:
    """Who claims events: a process, with the endpoints that it knows."""

    worker: str
    """Host and process, as `host:pid`."""
    endpoints: Endpoints

    def slots(self) -> dict[str, int]:
        """Return the number of slots of each endpoint that limits its concurrency."""
        return {
            endpoint.name: endpoint.concurrency
            for endpoint in self.endpoints.values()
            if endpoint.concurrency is not None
        }


@dataclass(frozen=True)
class DueCall:
    """A call to claim or dispatch what is due.

    Args:
        limit: How many events at most.
        endpoint: Take only the events of this endpoint. None: those of all.
    """

    limit: int
    claimant: Claimant
    endpoint: str | None = None


@dataclass(frozen=True)
class EndCall:
    """A call to record how an attempt ended.

    Args:
        outcome: The outcome to record in `webhook_attempts`. None: record nothing there.
    """

    statement: sa.TextClause
    claim: Claim
    worker: str
    values: dict[str, object]
    outcome: Outcome | None = None
    error: str | None = None


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
        endpoints: The endpoints whose events it holds: some have leases or limits of their own.
    """

    def __init__(self, endpoints: Endpoints | None = None) -> None:
        self._claimant = Claimant(f"{socket.gethostname()}:{os.getpid()}", endpoints or {})
        self._write_lock = WriteLock()
        self._commits = GroupCommit(OPERATIONS, DURABLE, self._write_lock)
        self._connections = Connections(create_async_engine())
        self.wake = asyncio.Event()
        """Set when there may be something to dispatch. The dispatcher clears it."""

    async def open(self) -> None:
        """Connect, and check the schema; in development, migrate it.

        If the database is away, this only logs it. The schema is checked when it is back.

        Raises:
            SystemExit: the database can be reached, but not used; the message says why.
        """
        try:
            async with asyncio.timeout(settings.ack_deadline_seconds):
                await self._commits.open()
        except TimeoutError:
            logger.error("DATABASE_URL: the database does not answer; trying again")
        except SchemaUnusable as error:
            raise SystemExit(f"DATABASE_URL: {error}") from error
        except (DBAPIError, OSError, TypeError) as error:
            if not is_temporary(error):
                raise SystemExit(f"DATABASE_URL: {unusable(error)}") from None
            logger.error("DATABASE_URL: the database is away: %s; trying again", describe(error))

    async def close(self) -> None:
        """Wait for what is being committed, and disconnect."""
        await self._commits.close()
        await self._connections.close()

    async def add(self, endpoint: str, delivery: Delivery) -> Added:
        """Store an event durably, unless it is stored already.

        Raises:
            StoreUnavailable: it was not committed within `ACK_DEADLINE_SECONDS`. It still may be.
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
        call = DueCall(limit, self._claimant)
        claims: list[Claim] = await self._commits.call(_claim_due, call)
        return claims

    async def claim_next(self, endpoint: str) -> Claim | None:
        """Claim the event of an endpoint that has been due longest."""
        call = DueCall(1, self._claimant, endpoint)
        claims: list[Claim] = await self._commits.call(_claim_due, call)
        return claims[0] if claims else None

    async def claim(self, reference: Reference) -> Claim | None:
        """Claim the event of a queue message; None if the message is out of date."""
        call = (reference, self._claimant)
        claim: Claim | None = await self._commits.call(_claim_reference, call)
        return claim

    async def dispatch_due(self) -> list[Reference]:
        """Mark due events as queued, and return a reference to each, for its message.

        All processes together have about `QUEUE_WINDOW` events queued at most. Those that no
        worker claims within `REQUEUE_AFTER_SECONDS` are due again.
        """
        call = DueCall(DISPATCH_BATCH, self._claimant)
        references: list[Reference] = await self._commits.call(_dispatch_due, call)
        return references

    async def undispatch(self, references: Sequence[Reference]) -> None:
        """Make events due again at once: their messages could not be published."""
        calls = [self._commits.call(_undispatch, reference) for reference in references]
        await asyncio.gather(*calls)

    async def complete(self, claim: Claim) -> None:
        """Record that the event was handled."""
        await self._end(statements.COMPLETE, claim, {})

    async def retry(
        self, claim: Claim, delay: float, error: str, outcome: Outcome = Outcome.FAILED
    ) -> None:
        """Record a failed attempt: the event is due again after `delay` seconds."""
        values: dict[str, object] = {"delay": delay, "error": error}
        await self._end(statements.RETRY, claim, values, outcome, error)

    async def bury(self, claim: Claim, error: str) -> None:
        """Record the last failed attempt: the event is dead."""
        await self._end(statements.BURY, claim, {"error": error}, Outcome.DEAD, error)

    async def keep_error(self, claim: Claim, error: str) -> None:
        """Keep the traceback of an attempt that failed after its event was done."""
        await self._end(statements.KEEP_ERROR, claim, {"error": error})

    async def release(self, claim: Claim, delay: float = 0, reason: str = "") -> None:
        """Record an attempt that does not count: the event is due again after `delay` seconds."""
        await self._end(statements.RELEASE, claim, {"delay": delay}, Outcome.RELEASED, reason)
        self.wake.set()

    async def _end(
        self,
        statement: sa.TextClause,
        claim: Claim,
        values: dict[str, object],
        outcome: Outcome | None = None,
        error: str | None = None,
    ) -> None:
        """Record how an attempt ended.

        Raises:
            LeaseLost: a later attempt has begun, and nothing was recorded.
        """
        call = EndCall(statement, claim, self._claimant.worker, values, outcome, error)
        if not await self._commits.call(_end, call):
            raise LeaseLost

    @asynccontextmanager
    async def transaction(self, claim: Claim) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction whose commit also marks the event done.

        Raises:
            LeaseLost: a later attempt has begun.
            StoreUnavailable: the transaction could not be opened.
            TransactionTooLong: on SQLite, it was open for more than 2 seconds.
        """
        async with AsyncExitStack() as stack:
            if is_sqlite:
                await stack.enter_async_context(self._write_lock.for_handler())
            try:
                connection, rows = await self._open(stack, claim)
            except (OperationalError, InterfaceError, PoolTimeout, OSError) as error:
                raise StoreUnavailable(describe(error)) from error
            if not rows:
                raise LeaseLost
            if is_sqlite:
                await stack.enter_async_context(_time_limit(connection))
            yield connection
            await _check_open(connection)

    async def _open(self, stack: AsyncExitStack, claim: Claim) -> tuple[AsyncConnection, int]:
        """Open a transaction. On SQLite, wait until no other process is writing."""
        opening = statements.complete_in_transaction(claim.id, claim.attempts)
        give_up_at = time.monotonic() + CONNECT_SECONDS
        while True:
            try:
                return await stack.enter_async_context(self._connections.transaction(opening))
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
    """Raise if a commit would lose what was done in the transaction."""
    if not connection.in_transaction():
        raise RuntimeError("the handler ended the transaction itself: leave that to `async with`")
    if not is_sqlite:
        raw = await connection.get_raw_connection()
        driver = cast("psycopg.AsyncConnection[Any]", raw.driver_connection)
        if driver.info.transaction_status == TransactionStatus.INERROR:
            raise RuntimeError("a statement failed, so PostgreSQL rolls the transaction back")


def _add(connection: sa.Connection, arguments: list[tuple[str, Delivery]]) -> list[Added]:
    first: dict[tuple[str, str], Delivery] = {}
    for endpoint, delivery in arguments:
        first.setdefault((endpoint, delivery.id), delivery)
    parameters: dict[str, object] = {}
    # Sorted: two batches with the same events in different orders could deadlock.
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
    if stored is None or stored.state == "pruned":
        return Added.DUPLICATE
    if (stored.event_type, stored.payload) == (delivery.type, delivery.payload):
        return Added.DUPLICATE
    return Added.OTHER_BODY if stored.event_type == delivery.type else Added.OTHER_TYPE


def _claim_due(connection: sa.Connection, calls: list[DueCall]) -> list[list[Claim]]:
    return [_claim_for(connection, call) for call in calls]


def _claim_for(connection: sa.Connection, call: DueCall) -> list[Claim]:
    own_leases, leases = _leases(call.claimant)
    slots = call.claimant.slots()
    if not slots and call.endpoint is None:
        statement = statements.claim_due(own_leases)
        rows = connection.execute(statement, leases | {"limit": call.limit}).all()
    else:

        def claim(ids: list[int]) -> Rows:
            limited = list(slots) or [""]  # IN needs a value
            parameters = leases | {"ids": ids, "limited": limited}
            return connection.execute(statements.claim_found(own_leases), parameters).all()

        rows = take_due(connection, call.limit, slots, claim, call.endpoint)
    return _claims(connection, rows)


def _claim_reference(
    connection: sa.Connection, calls: list[tuple[Reference, Claimant]]
) -> list[Claim | None]:
    claims: list[Claim | None] = []
    for reference, claimant in calls:
        own_leases, leases = _leases(claimant)
        parameters = leases | reference._asdict()
        rows = connection.execute(statements.claim_reference(own_leases), parameters).all()
        claims += _claims(connection, rows) or [None]
    return claims


def _claims(connection: sa.Connection, rows: Rows) -> list[Claim]:
    """Return the claims in these rows. An earlier attempt that never ended is recorded as lost."""
    claims = []
    for row in rows:
        claim = Claim(
            id=row.id,
            attempts=row.attempts,
            failures=row.failures,
            endpoint=row.endpoint,
            event_id=row.event_id,
            event_type=row.event_type,
            payload=row.payload,
            headers=row.headers,
            started_at=row.started_at,
            follows_lost=row.lost_started_at is not None,
        )
        claims.append(claim)
        if claim.follows_lost:
            lost = {
                "event": row.id,
                "number": row.attempts - 1,
                "started_at": row.lost_started_at,
                "worker": row.lost_worker,
            }
            connection.execute(statements.ADD_LOST_ATTEMPT, lost)
    return claims


def _dispatch_due(connection: sa.Connection, calls: list[DueCall]) -> list[list[Reference]]:
    return [_dispatch_for(connection, call) for call in calls]


def _dispatch_for(connection: sa.Connection, call: DueCall) -> list[Reference]:
    queued = connection.execute(statements.COUNT_QUEUED).scalar_one()
    limit = min(call.limit, max(0, QUEUE_WINDOW - queued))
    requeue = {"requeue_after": settings.requeue_after_seconds}
    slots = call.claimant.slots()
    if not slots:
        rows = connection.execute(statements.DISPATCH_DUE, requeue | {"limit": limit}).all()
    else:

        def dispatch(ids: list[int]) -> Rows:
            parameters = requeue | {"ids": ids, "limited": list(slots)}
            return connection.execute(statements.DISPATCH_FOUND, parameters).all()

        rows = take_due(connection, limit, slots, dispatch)
    return [Reference(row.id, row.attempts) for row in rows]


def _undispatch(connection: sa.Connection, references: list[Reference]) -> list[None]:
    for reference in references:
        connection.execute(statements.UNDISPATCH, reference._asdict())
    return [None] * len(references)


def _end(connection: sa.Connection, calls: list[EndCall]) -> list[bool]:
    ended = []
    for call in calls:
        claim = call.claim
        row = connection.execute(call.statement, claim.key() | call.values).first()
        ended.append(row is not None)
        if row is not None and call.outcome is not None:
            attempt = {
                "event": claim.id,
                "number": claim.attempts,
                "started_at": claim.started_at,
                "worker": call.worker,
                "outcome": call.outcome.value,
                "error": call.error,
            }
            connection.execute(statements.ADD_ATTEMPT, attempt)
    return ended


# Inserts come first. Only they wait for other sessions, and by then the transaction has not locked
# anything that those could be waiting for.
OPERATIONS = (_add, _end, _undispatch, _claim_reference, _claim_due, _dispatch_due)

# Only an acknowledgement has to reach the disk. If a power failure undoes anything else, it is done
# again.
DURABLE = {_add}


def _leases(claimant: Claimant) -> tuple[int, dict[str, object]]:
    """Return how many endpoints have leases of their own, and the parameters of a claim."""
    endpoints = claimant.endpoints.values()
    own = [each for each in endpoints if each.handler_timeout_seconds is not None]
    parameters: dict[str, object] = {"lease": lease_seconds(), "worker": claimant.worker}
    for number, endpoint in enumerate(own):
        parameters[f"endpoint_{number}"] = endpoint.name
        parameters[f"lease_{number}"] = lease_seconds(endpoint)
    return len(own), parameters


def lease_seconds(endpoint: Endpoint | None = None) -> float:
    """Return how long an attempt may take, with the record of its end, before it counts as lost."""
    own = endpoint.handler_timeout_seconds if endpoint else None
    timeout = settings.handler_timeout_seconds if own is None else own
    return timeout + CANCEL_SECONDS + settings.ack_deadline_seconds
