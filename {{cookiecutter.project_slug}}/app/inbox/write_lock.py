"""Who may write to SQLite: the thread that commits batches, or one handler after the other.

SQLite has one writer at a time. Here, the writers of a process wait for each other, and each wakes
the next. In SQLite, they would poll.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TURN_SECONDS = 0.005


class WriteLock:
    """Handlers take turns with batches of acknowledgements.

    The handlers' turn lasts 5 ms, and until the transaction that is open then has ended. So a batch
    waits for a few short transactions, or for a single long one, however many handlers there are.
    With a batch between any two transactions, half of the time would be spent waiting for the disk.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._handlers = asyncio.Lock()
        self._waiting_handlers = 0
        self._is_turn_of_handlers = False
        self._turn_ends = 0.0

    @asynccontextmanager
    async def for_batch(self) -> AsyncIterator[None]:
        """Hold the lock for a batch."""
        async with self._lock:
            yield

    @asynccontextmanager
    async def for_handler(self) -> AsyncIterator[None]:
        """Hold the lock for the transaction of a handler."""
        self._waiting_handlers += 1
        try:
            await self._handlers.acquire()
        finally:
            self._waiting_handlers -= 1
            self._end_turn_if_unused()
        try:
            if not self._is_turn_of_handlers:
                await self._lock.acquire()
                self._is_turn_of_handlers = True
                self._turn_ends = time.monotonic() + TURN_SECONDS
            yield
        finally:
            is_over = time.monotonic() >= self._turn_ends or not self._waiting_handlers
            if self._is_turn_of_handlers and is_over:
                self._end_turn()
            self._handlers.release()

    def _end_turn_if_unused(self) -> None:
        # The turn may have been kept for a handler that was then cancelled while it waited.
        nobody_uses_it = not self._handlers.locked() and not self._waiting_handlers
        if self._is_turn_of_handlers and nobody_uses_it:
            self._end_turn()

    def _end_turn(self) -> None:
        self._is_turn_of_handlers = False
        self._lock.release()
