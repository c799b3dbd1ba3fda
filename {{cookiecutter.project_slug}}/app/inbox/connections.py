"""Connections that stay open from one transaction to the next.

Taking a connection from SQLAlchemy's pool, checking that it still works, and putting it back costs
more than the statements of a handler that writes one row. `docs/design.md` of the template says how
much this saves.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database import is_sqlite
from app.inbox import sqlite_driver

# At a stricter level, PostgreSQL would abort the second of two transactions with the same event.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"

# A class of errors: the server shuts down, or an administrator ends the session. See
# https://www.postgresql.org/docs/current/errcodes-appendix.html
OPERATOR_INTERVENTION = "57P"


class Connections:
    """Keeps connections open: as many as there were transactions at the same time."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._idle: list[sa.Connection] = []

    @asynccontextmanager
    async def transaction(self, opening: str) -> AsyncIterator[tuple[AsyncConnection, int]]:
        """Yield a connection in a transaction that is committed at the end of the block.

        After the block, it cannot be used. After an error, SQLAlchemy rolls back and closes it.

        Args:
            opening: The first statements of the transaction. On PostgreSQL they are sent together
                with `BEGIN`: one round trip instead of two.

        Yields:
            The connection, and how many rows the last of these statements changed.
        """
        connection, rows = await self._open(opening)
        sync_connection = _sync_connection(connection)
        options = sync_connection.get_execution_options()
        reusable = False
        try:
            async with connection.begin():
                yield connection, rows
            # The next handler must not inherit options that this one has set.
            reusable = sync_connection.get_execution_options() == options
        finally:
            if reusable:
                self._idle.append(sync_connection)
                connection.sync_connection = None  # so that nobody uses it after the block
            else:
                await _close(connection)

    async def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            await AsyncConnection(self._engine, self._idle.pop()).close()
        await self._engine.dispose()

    async def _open(self, opening: str) -> tuple[AsyncConnection, int]:
        while self._idle:
            connection = AsyncConnection(self._engine, self._idle.pop())
            try:
                return connection, await self._begin(connection, opening)
            except OperationalError as error:
                # The server closed it while it was idle, so nothing was executed: try another one.
                if not error.connection_invalidated:
                    raise
        connection = await self._engine.connect()
        return connection, await self._begin(connection, opening)

    async def _begin(self, connection: AsyncConnection, opening: str) -> int:
        """Begin a transaction; return how many rows the last statement changed.

        This calls the driver, because SQLAlchemy would take longer than the database does.
        """
        sync_connection = _sync_connection(connection)
        driver = sync_connection.connection.driver_connection
        try:
            if is_sqlite:
                return cast("sqlite_driver.Connection", driver).begin(opening)
            return await _begin_on_postgresql(cast("psycopg.AsyncConnection[Any]", driver), opening)
        except sqlite3.OperationalError as error:
            # Another process is writing, so no transaction has begun.
            self._idle.append(sync_connection)
            raise OperationalError(opening, None, error) from error
        except psycopg.OperationalError as error:
            is_lost = _is_lost(cast("psycopg.AsyncConnection[Any]", driver), error)
            if is_lost:
                await connection.invalidate()
            await _close(connection)
            raise OperationalError(opening, None, error, connection_invalidated=is_lost) from error
        except BaseException:
            await _close(connection)
            raise


async def _begin_on_postgresql(driver: psycopg.AsyncConnection[Any], opening: str) -> int:
    # The connection is in autocommit mode, or the driver would send a BEGIN of its own.
    cursor = await driver.execute(f"{BEGIN}; {opening}".encode())
    while cursor.nextset():
        pass
    return cursor.rowcount


def _is_lost(driver: psycopg.AsyncConnection[Any], error: psycopg.OperationalError) -> bool:
    """Tell whether the server has closed the connection, or is about to."""
    return driver.broken or (error.sqlstate or "").startswith(OPERATOR_INTERVENTION)


def _sync_connection(connection: AsyncConnection) -> sa.Connection:
    sync_connection = connection.sync_connection
    assert sync_connection is not None  # noqa: S101
    return sync_connection


async def _close(connection: AsyncConnection) -> None:
    """Roll back, and close. Cancelling the caller does not interrupt this."""
    await asyncio.shield(asyncio.ensure_future(connection.close()))
