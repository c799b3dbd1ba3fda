"""Group commit: the calls of concurrent requests share one transaction, and one fsync.

One thread writes. While it commits a batch, the next one gathers.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError

from app.database import is_sqlite
from app.inbox.engines import create_engine
from app.inbox.write_lock import WriteLock
from app.schema import SchemaUnusable, prepare

MAX_BATCH = 100  # calls
CLOSE_SECONDS = 5
LOCK_TIMEOUT_MS = 1000
LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"

T = TypeVar("T")

logger = logging.getLogger(__name__)


class StoreUnavailable(Exception):
    """The database did not commit, or did not open a transaction. It may be tried again."""


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
        write_lock: Held while a batch is committed. Handlers on SQLite take it, too.
        durable: Whether a commit waits for the disk.
    """

    def __init__(
        self, operations: Sequence[Operation], write_lock: WriteLock, *, durable: bool
    ) -> None:
        self._operations = operations
        self._write_lock = write_lock
        self._durable = durable
        self._engine = create_engine(durable=durable)
        self._schema_is_ready = False
        self._waiting: list[_Call] = []
        self._committing: asyncio.Task[None] | None = None
        self._closed = False
        self._thread = _CommitThread()

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
        await self._thread.run(self._prepare_schema)

    async def close(self) -> None:
        """Wait for the batch that is being committed, and disconnect.

        A database that hangs is waited for `CLOSE_SECONDS`, and then left alone.
        """
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._committing is not None:
                    await asyncio.wait([self._committing])
                await self._thread.run(self._engine.dispose)
        except TimeoutError:
            logger.error("the database hangs: what it was to commit may be missing")
        self._thread.stop()

    async def _commit_batches(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # whoever has just heard of the last batch can join this one
            async with self._write_lock.for_batch():
                waiting = [call for call in self._waiting if not call.result.done()]
                batch = waiting[:MAX_BATCH]
                self._waiting = waiting[MAX_BATCH:]
                outcomes = await self._thread.run(partial(self._commit, batch))
            for call, outcome in zip(batch, outcomes, strict=True):
                _settle(call.result, outcome)
        self._committing = None

    def _commit(self, batch: list[_Call]) -> list[Any]:
        try:
            if not self._schema_is_ready:
                self._prepare_schema()
            return self._transact(batch)
        except SchemaUnusable as error:
            logger.error("the database did not commit: %s", error)
            return [StoreUnavailable("the schema")] * len(batch)
        except Exception as error:
            if len(batch) > 1 and not _is_away(error):
                # One of them is at fault: it is not to fail the others.
                return [outcome for call in batch for outcome in self._commit([call])]
            logger.error("the database did not commit: %s", describe(error))
            return [StoreUnavailable(type(error).__name__)] * len(batch)

    def _transact(self, batch: list[_Call]) -> list[Any]:
        outcomes: dict[_Call, Any] = {}
        with self._engine.begin() as connection:
            if not is_sqlite:
                # A row that another session holds does not stop the others for long.
                options = f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"
                if not self._durable:
                    options += "; SET LOCAL synchronous_commit = off"
                connection.exec_driver_sql(options)
            for operation in self._operations:
                calls = [call for call in batch if call.operation == operation]
                if calls:
                    results = operation(connection, [call.argument for call in calls])
                    outcomes.update(zip(calls, results, strict=True))
        return [outcomes[call] for call in batch]

    def _prepare_schema(self) -> None:
        prepare(self._engine)
        self._schema_is_ready = True


def _settle(result: asyncio.Future[Any], outcome: object) -> None:
    if result.done():
        return  # whoever waited for it was cancelled
    if isinstance(outcome, BaseException):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)


def _is_away(error: Exception) -> bool:
    """Tell a database that cannot be used right now from one that refuses a certain call."""
    if isinstance(error, OperationalError):
        return getattr(error.orig, "sqlstate", None) not in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED)
    return isinstance(error, InterfaceError | OSError)


def describe(error: BaseException) -> str:
    """Return what the database says of an error, but nothing that may quote a payload."""
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


@dataclass
class _Job:
    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[Any]


class _CommitThread:
    """A daemon thread, so that a database that hangs does not keep the process from ending."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="group commit", daemon=True).start()

    async def run(self, function: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(function, loop, result))
        return await result

    def stop(self) -> None:
        self._jobs.put(None)

    def _work(self) -> None:
        while job := self._jobs.get():
            outcome: object
            try:
                outcome = job.function()
            except BaseException as error:
                outcome = error
            with suppress(RuntimeError):  # the event loop is closed: nobody waits any more
                job.loop.call_soon_threadsafe(_settle, job.result, outcome)
