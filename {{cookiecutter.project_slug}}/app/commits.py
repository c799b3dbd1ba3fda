"""Group commit: what concurrent callers want written shares one transaction, and one fsync."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from app.database import create_schema, is_sqlite

Operation = Callable[[Connection, list[Any]], Sequence[Any]]
"""Carries out calls of one kind inside a transaction, and returns the result of each."""

Calls = dict[asyncio.Future[Any], tuple[Operation, Any]]
BATCH = 100  # calls: each may hold MAX_BODY_BYTES

logger = logging.getLogger(__name__)


class StoreUnavailable(Exception):
    """The database did not commit."""


class GroupCommit:
    """Commits calls in batches: while one is being written, the next one gathers.

    `lock` is held while a batch is written. On SQLite the handlers' transactions take it too: the
    writers of one process then take turns here, and not in SQLite, where waiting means polling.
    In a batch the operations are carried out in their `order`; calls of the first are one
    statement. After a small batch, or none, one waits for `pause` seconds, for others to join it.
    """

    def __init__(self, engine: Engine, lock: asyncio.Lock, pause: float, *order: Operation) -> None:
        self._engine = engine
        self._auto = engine if is_sqlite else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lock = lock
        self._pause = pause
        self._order = order
        self._thread = ThreadPoolExecutor(1, "commits")
        self._thread.submit(int)  # if there can be no thread, there is to be no service
        self._gathering: Calls = {}
        self._flushing: asyncio.Task[None] | None = None
        self._schema_exists = False

    def submit(self, operation: Operation, parameter: object) -> asyncio.Future[Any]:
        """Return what will be the result of this call once it is committed, or `StoreUnavailable`.

        A caller that waits no longer cancels it: a call that is not being written yet never is.
        """
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
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
        batch: Calls = {}
        while self._gathering:
            # Those who have just heard of the last batch may have more.
            await asyncio.sleep(self._pause if len(batch) < 3 else 0)
            async with self._lock:
                batch = {r: self._gathering.pop(r) for r in list(islice(self._gathering, BATCH))}
                outcomes = await loop.run_in_executor(self._thread, self._commit, batch)
            for result, outcome in outcomes.items():
                failed = isinstance(outcome, StoreUnavailable)
                if not result.done():
                    (result.set_exception if failed else result.set_result)(outcome)
        self._flushing = None

    def _commit(self, batch: Calls, again: bool = True) -> dict[asyncio.Future[Any], Any]:
        outcomes: dict[asyncio.Future[Any], Any] = {}
        try:
            # To PostgreSQL, BEGIN and COMMIT are round trips, which one statement does not need.
            alone = len(batch) == 1 or all(call[0] is self._order[0] for call in batch.values())
            engine = self._auto if alone and self._schema_exists else self._engine
            with engine.begin() as connection:
                if not self._schema_exists:
                    create_schema(connection)
                for each in self._order:
                    if calls := {r: call[1] for r, call in batch.items() if call[0] is each}:
                        outcomes |= zip(calls, each(connection, list(calls.values())), strict=True)
            self._schema_exists = True
        except Exception as error:
            if again and isinstance(error, DBAPIError) and error.connection_invalidated:
                # A restarted server has closed it. What was committed after all is not done twice:
                # an event is there already, and a key is spent (only a refund may be given twice).
                return self._commit(batch, again=False)
            if len(batch) == 1 or isinstance(error, OperationalError):
                logger.error("the database did not commit: %s", type(error).__name__)
                self._engine.dispose()  # the next batch connects anew
                return dict.fromkeys(batch, StoreUnavailable(type(error).__name__))
            for call in batch.items():
                outcomes |= self._commit(dict([call]))
        return outcomes
