"""Who commits batches: a thread on SQLite, the event loop on PostgreSQL."""

import asyncio
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa

from app.database import is_sqlite
from app.inbox.connections import Connections
from app.inbox.engines import create_async_engine, create_engine

LOCK_TIMEOUT_MS = 1000  # a row that another session has locked delays a batch no longer

T = TypeVar("T")


class Writer(ABC):
    """Carries out one transaction after the other."""

    @abstractmethod
    async def write(self, function: Callable[[sa.Connection], T], *, durable: bool) -> T:
        """Call a function in a transaction, and return its result.

        Args:
            durable: Whether the commit reaches the disk before this returns.
        """

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""


class PostgresqlWriter(Writer):
    """Commits in the event loop."""

    def __init__(self) -> None:
        self._connections = Connections(create_async_engine())

    async def write(self, function: Callable[[sa.Connection], T], *, durable: bool) -> T:
        """Call a function in a transaction, and return its result."""
        opening = f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"
        if not durable:
            opening += "; SET LOCAL synchronous_commit = off"
        async with self._connections.transaction(opening) as (connection, _):
            return await connection.run_sync(function)

    async def close(self) -> None:
        """Disconnect."""
        await self._connections.close()


class SqliteWriter(Writer):
    """Commits in a thread. It is a daemon: a disk that hangs does not keep the process alive."""

    def __init__(self) -> None:
        self._engine = create_engine()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="group commit", daemon=True).start()

    async def write(self, function: Callable[[sa.Connection], T], *, durable: bool) -> T:
        """Call a function in a transaction, and return its result."""
        return await self._run(partial(self._write, function, durable))

    async def close(self) -> None:
        """Disconnect, and end the thread."""
        await self._run(self._engine.dispose)
        self._jobs.put(None)

    def _write(self, function: Callable[[sa.Connection], T], durable: bool) -> T:
        with self._engine.begin() as connection:
            connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            return function(connection)

    async def _run(self, function: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(function, loop, result))
        return await result

    def _work(self) -> None:
        while job := self._jobs.get():
            job.carry_out()


@dataclass
class _Job:
    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[Any]

    def carry_out(self) -> None:
        """Call the function, and pass its result or exception to the event loop."""
        outcome: object
        try:
            outcome = self.function()
        except BaseException as error:
            outcome = error
        with suppress(RuntimeError):  # the event loop is closed: nobody is waiting
            self.loop.call_soon_threadsafe(settle, self.result, outcome)


async def in_a_thread(function: Callable[[], T]) -> T:
    """Return the result of a blocking function. If it hangs, it does not keep the process alive."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    job = _Job(function, loop, result)
    threading.Thread(target=job.carry_out, daemon=True).start()
    return await result


def settle(result: asyncio.Future[Any], outcome: object) -> None:
    """Set the result or the exception of a future, unless its caller was cancelled."""
    if result.done():
        return
    if isinstance(outcome, BaseException):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)


def create_writer() -> Writer:
    """Return the writer for the database in use."""
    return SqliteWriter() if is_sqlite else PostgresqlWriter()
