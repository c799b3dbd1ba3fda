"""Group commit: the calls of concurrent requests share one transaction, and one fsync.

While a batch is being committed, the next one gathers.
"""

import asyncio
import logging
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError

from app.inbox.write_lock import WriteLock
from app.inbox.writers import create_writer, in_a_thread, settle
from app.schema import SchemaUnusable, prepare

MAX_BATCH = 100  # calls
CLOSE_SECONDS = 5
LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"

logger = logging.getLogger(__name__)


class StoreUnavailable(Exception):
    """The database did not commit, or did not open a transaction. Try again later."""


Operation = Callable[[sa.Connection, list[Any]], Sequence[Any]]
"""Carries out calls of one kind in a transaction, and returns the result of each."""


@dataclass(eq=False)
class _Call:
    operation: Operation
    argument: object
    result: asyncio.Future[Any]


class GroupCommit:
    """Commits calls in batches.

    Args:
        operations: Every operation, in the order in which a batch carries them out.
        durable: The operations whose commit has to reach the disk before the call returns.
        write_lock: Held while a batch is committed. Handlers on SQLite take it, too.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        durable: Container[Operation],
        write_lock: WriteLock,
    ) -> None:
        self._operations = operations
        self._durable = durable
        self._write_lock = write_lock
        self._writer = create_writer()
        self._schema_is_ready = False
        self._waiting: list[_Call] = []
        self._committing: asyncio.Task[None] | None = None
        self._closed = False

    async def call(self, operation: Operation, argument: object) -> Any:
        """Return the result of one call once it is committed.

        Cancelling the caller drops the call, unless its batch is already being committed.

        Raises:
            StoreUnavailable: it was not committed.
        """
        if self._closed:
            raise StoreUnavailable("the inbox is closed")
        call = _Call(operation, argument, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_batches())
        return await call.result

    async def open(self) -> None:
        """Connect, and check the schema. Raises whatever goes wrong."""
        await self._prepare_schema()

    async def close(self) -> None:
        """Wait for the batch that is being committed, and disconnect.

        If the database hangs, give up after `CLOSE_SECONDS`.
        """
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._committing is not None:
                    await asyncio.wait([self._committing])
                await self._writer.close()
        except TimeoutError:
            logger.error("the database hangs: what it was committing may be missing")

    async def _commit_batches(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # callers of the last batch may call again, and join this one
            async with self._write_lock.for_batch():
                waiting = [call for call in self._waiting if not call.result.done()]
                batch = waiting[:MAX_BATCH]
                self._waiting = waiting[MAX_BATCH:]
                outcomes = await self._commit(batch)
            for call, outcome in zip(batch, outcomes, strict=True):
                settle(call.result, outcome)
        self._committing = None

    async def _commit(self, batch: list[_Call]) -> list[Any]:
        durable = any(call.operation in self._durable for call in batch)
        try:
            if not self._schema_is_ready:
                await self._prepare_schema()
            return await self._writer.write(partial(self._carry_out, batch), durable=durable)
        except SchemaUnusable as error:
            logger.error("the database did not commit: %s", error)
            return [StoreUnavailable("the schema")] * len(batch)
        except Exception as error:
            if len(batch) > 1 and not _is_away(error):
                # One call is at fault, and must not fail the others: commit each by itself.
                return [outcome for call in batch for outcome in await self._commit([call])]
            logger.error("the database did not commit: %s", describe(error))
            return [StoreUnavailable(type(error).__name__)] * len(batch)

    def _carry_out(self, batch: list[_Call], connection: sa.Connection) -> list[Any]:
        outcomes: dict[_Call, Any] = {}
        for operation in self._operations:
            calls = [call for call in batch if call.operation == operation]
            if calls:
                results = operation(connection, [call.argument for call in calls])
                outcomes.update(zip(calls, results, strict=True))
        return [outcomes[call] for call in batch]

    async def _prepare_schema(self) -> None:
        await in_a_thread(prepare)
        self._schema_is_ready = True


def _is_away(error: Exception) -> bool:
    """Return whether the database cannot be used right now, as opposed to refusing one call."""
    if isinstance(error, OperationalError):
        return getattr(error.orig, "sqlstate", None) not in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED)
    return isinstance(error, InterfaceError | OSError)


def describe(error: BaseException) -> str:
    """Return what the database says about an error, without anything that may quote a payload."""
    if not isinstance(error, DBAPIError):
        return type(error).__name__
    kind = type(error.orig).__name__
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        kind = f"{kind} (SQLSTATE {state})"
    if isinstance(error, DataError | IntegrityError):
        return kind
    first_line = str(error.orig).strip().partition("\n")[0]
    return f"{kind}: {first_line}"
