"""Connections of the handlers' transactions, which stay open from one event to the next.

To take a connection from SQLAlchemy's pool for each event, and to put it back, costs about as
much as the statements of a handler that writes one row: see `docs/design.md` of the template.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


class Connections:
    """As many open connections as there were transactions at the same time."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._idle: list[sa.Connection] = []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that is committed at the end of the block.

        It is good for nothing after that. After an error SQLAlchemy rolls it back and closes it.
        """
        if self._idle:
            connection = AsyncConnection(self._engine, self._idle.pop())
        else:
            connection = await self._engine.connect()
        opened = connection.sync_connection
        assert opened is not None  # noqa: S101
        options = opened.get_execution_options()
        reusable = False
        try:
            async with connection.begin():
                yield connection
            # What a handler has set for itself is not for the next one.
            reusable = opened.get_execution_options() == options
        finally:
            if reusable:
                self._idle.append(opened)
                connection.sync_connection = None  # whoever still has it cannot use it
            else:
                await asyncio.shield(asyncio.ensure_future(connection.close()))

    async def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            await AsyncConnection(self._engine, self._idle.pop()).close()
        await self._engine.dispose()
