"""Group commit: what concurrent callers want written shares one transaction, and one fsync."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from app.database import create_schema

P = TypeVar("P")
R = TypeVar("R")
Operation = Callable[[Connection, list[P]], Sequence[R]]
"""Carries out calls of one kind inside a transaction, and returns the result of each."""

Call = tuple[Operation[Any, Any], Any]

logger = logging.getLogger(__name__)


class StoreUnavailable(Exception):
    """The database did not commit."""


class GroupCommit:
    """Commits calls in batches: while one is being written, the next one gathers.

    `lock` is held while a batch is written. On SQLite the handlers' transactions take it too: the
    writers of one process then take turns here, and not in SQLite, where waiting means polling.
    """

    def __init__(self, engine: Engine, lock: asyncio.Lock) -> None:
        self._engine = engine
        self._lock = lock
        self._thread = ThreadPoolExecutor(1, "commits")
        self._gathering: dict[asyncio.Future[Any], Call] = {}
        self._flushing: asyncio.Task[None] | None = None
        self._schema_exists = False

    def submit(self, operation: Operation[P, R], parameter: P) -> asyncio.Future[R]:
        """Return what will be the result of this call once it is committed, or `StoreUnavailable`.

        A caller that waits no longer cancels it: a call that is not being written yet never is.
        """
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        result.add_done_callback(lambda result: self._gathering.pop(result, None))
        self._gathering[result] = (operation, parameter)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return result

    async def close(self) -> None:
        """Wait for what is being written."""
        if self._flushing is not None:
            await self._flushing
        self._thread.shutdown()
        self._engine.dispose()

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._gathering:
            async with self._lock:
                batch = list(islice(self._gathering.items(), 500))
                batch.sort(key=lambda item: item[1][0].__name__)
                for result, _ in batch:
                    del self._gathering[result]
                calls = [call for _, call in batch]
                outcomes = await loop.run_in_executor(self._thread, self._commit, calls)
            for (result, _), outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, StoreUnavailable) and not result.done():
                    result.set_exception(outcome)
                elif not result.done():
                    result.set_result(outcome)
        self._flushing = None

    def _commit(self, calls: list[Call]) -> list[Any]:
        try:
            with self._engine.begin() as connection:
                if not self._schema_exists:
                    create_schema(connection)
                outcomes: list[Any] = []
                for operation, group in groupby(calls, lambda call: call[0]):
                    outcomes += operation(connection, [parameter for _, parameter in group])
            self._schema_exists = True
            return outcomes
        except Exception as error:
            if len(calls) > 1 and not isinstance(error, OperationalError):
                return [outcome for call in calls for outcome in self._commit([call])]
            logger.error("the database did not commit: %s", type(error).__name__)
            self._engine.dispose()  # the next batch connects anew
            return [StoreUnavailable(type(error).__name__)] * len(calls)
