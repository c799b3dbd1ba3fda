"""Connections of the handlers' transactions, which stay open from one event to the next.

To take a connection from SQLAlchemy's pool for each event, and to put it back, costs about as
much as the statements of a handler that writes one row: see `docs/design.md` of the template.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


class Connections:
    """As many open connections as there were transactions at the same time."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._idle: list[AsyncConnection] = []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that is committed at the end of the block.

        After an error the connection goes back to SQLAlchemy, which rolls it back or closes it.
        """
        connection = self._idle.pop() if self._idle else await self._engine.connect()
        options = _options(connection)
        reusable = False
        try:
            async with connection.begin():
                yield connection
            # What a handler has set for itself is not for the next one.
            reusable = _options(connection) == options
        finally:
            if reusable:
                self._idle.append(connection)
            else:
                await asyncio.shield(asyncio.ensure_future(connection.close()))

    async def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            await self._idle.pop().close()
        await self._engine.dispose()


def _options(connection: AsyncConnection) -> Mapping[str, Any]:
    return connection.sync_connection.get_execution_options() if connection.sync_connection else {}
