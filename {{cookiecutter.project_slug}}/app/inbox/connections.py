"""Connections that stay open from one transaction to the next.

To take a connection from SQLAlchemy's pool for each event, to ask whether it still works, and to
put it back costs more than the statements of a handler that writes one row. What this saves is in
`docs/design.md` of the template.
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

# In a stricter level, PostgreSQL would fail the second of two transactions with the same event.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"

# The server shuts down, or somebody ends the session:
# https://www.postgresql.org/docs/current/errcodes-appendix.html
OPERATOR_INTERVENTION = "57P"


class Connections:
    """As many open connections as there were transactions at the same time."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._idle: list[sa.Connection] = []

    @asynccontextmanager
    async def transaction(self, opening: str) -> AsyncIterator[tuple[AsyncConnection, int]]:
        """Yield a connection in a transaction that is committed at the end of the block.

        It is good for nothing after that. After an error SQLAlchemy rolls it back and closes it.

        Args:
            opening: The first statements of the transaction. On PostgreSQL they are sent together
                with `BEGIN`: one round trip instead of two.

        Yields:
            The connection, and how many rows the last of these statements changed.
        """
        connection, rows = await self._open(opening)
        opened = _opened(connection)
        options = opened.get_execution_options()
        reusable = False
        try:
            async with connection.begin():
                yield connection, rows
            # What a handler has set for itself is not for the next one.
            reusable = opened.get_execution_options() == options
        finally:
            if reusable:
                self._idle.append(opened)
                connection.sync_connection = None  # whoever still has it cannot use it
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
                # If the server has closed it since, nothing was carried out: try another one.
                if not error.connection_invalidated:
                    raise
        connection = await self._engine.connect()
        return connection, await self._begin(connection, opening)

    async def _begin(self, connection: AsyncConnection, opening: str) -> int:
        """Begin a transaction. The driver does it: SQLAlchemy takes longer than the database."""
        opened = _opened(connection)
        driver = opened.connection.driver_connection
        try:
            if is_sqlite:
                return cast("sqlite_driver.Connection", driver).begin(opening)
            return await _begin_on_postgresql(cast("psycopg.AsyncConnection[Any]", driver), opening)
        except sqlite3.OperationalError as error:
            self._idle.append(opened)  # another process writes: there is no transaction yet
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


def _opened(connection: AsyncConnection) -> sa.Connection:
    opened = connection.sync_connection
    assert opened is not None  # noqa: S101
    return opened


async def _close(connection: AsyncConnection) -> None:
    """Roll back, and close. Nobody may cancel that halfway."""
    await asyncio.shield(asyncio.ensure_future(connection.close()))
