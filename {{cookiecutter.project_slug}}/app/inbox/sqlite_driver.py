"""SQLite for handlers, without a thread.

aiosqlite passes each statement to a thread. For the short writes of a handler, that takes longer
than the statement itself. So here, the statements of handlers run in the event loop, with three
limits that keep them from blocking it:

- A statement does not wait for a lock that another process holds. The caller tries again.
- A statement ends with an error when its transaction's time is up.
- Nothing waits for the disk: the thread that commits acknowledgements writes checkpoints.

A handler is never cancelled in the middle of a statement, so its transaction can be rolled back.
"""

import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any, Self

CHECK_EVERY = 10_000  # instructions of SQLite, about 0.1 ms


class Connection:
    """The part of aiosqlite's connection that SQLAlchemy uses."""

    def __init__(self, database: str, **options: Any) -> None:
        options["timeout"] = 0
        self._connection = sqlite3.connect(database, isolation_level="IMMEDIATE", **options)
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._connection.set_progress_handler(self._is_late, CHECK_EVERY)
        self.deadline = float("inf")
        """When the transaction's time is up, by `time.monotonic()`."""

    def _is_late(self) -> bool:
        return time.monotonic() > self.deadline

    def __await__(self) -> Generator[None, None, Self]:
        yield from ()
        return self

    def begin(self, opening: str) -> int:
        """Begin a transaction with a statement; return how many rows that changed."""
        cursor = self._connection.execute(opening)
        rows: int = cursor.rowcount
        return rows

    def cursor(self) -> "Cursor":
        """Return a new cursor."""
        return Cursor(self._connection.cursor())

    async def create_function(self, *arguments: Any, **options: Any) -> None:
        """Add a function to SQL. The dialect adds one for regular expressions."""
        self._connection.create_function(*arguments, **options)

    async def commit(self) -> None:
        """Commit the transaction."""
        self._connection.commit()

    async def rollback(self) -> None:
        """Roll the transaction back."""
        self._connection.rollback()

    async def close(self) -> None:
        """Roll back what is open, and disconnect."""
        self.stop()

    def stop(self) -> None:
        """Do the same as `close`, where nothing can be awaited."""
        with suppress(sqlite3.ProgrammingError):  # it was closed before
            self._connection.rollback()
        self._connection.close()


class Cursor:
    """The part of aiosqlite's cursor that SQLAlchemy uses."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Self:
        """Execute a statement."""
        self._cursor.execute(statement, parameters)
        return self

    async def executemany(self, statement: str, parameters: Sequence[Any]) -> Self:
        """Execute a statement with each of several sets of parameters."""
        self._cursor.executemany(statement, parameters)
        return self

    async def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return self._cursor.fetchall()

    async def fetchone(self) -> Any:
        """Return the next row, or None."""
        return self._cursor.fetchone()

    async def fetchmany(self, size: int = 1) -> list[Any]:
        """Return the next rows."""
        return self._cursor.fetchmany(size)

    async def close(self) -> None:
        """End the statement."""
        self._cursor.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)  # description, rowcount, lastrowid, arraysize
