"""Slots: how many events of an endpoint are handled at a time, in all processes together.

Only endpoints that limit their concurrency have slots. An event takes one when it is claimed or
dispatched, and keeps it until its attempt ends or its lease expires. An event that gets no slot
stays due, and does not hold up the events of other endpoints.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from app.inbox import statements

Rows = Sequence[sa.Row[Any]]
Take = Callable[[list[int]], Rows]
"""Claims or dispatches the events with these ids, and returns their rows."""


def take_due(
    connection: sa.Connection,
    limit: int,
    slots: Mapping[str, int],
    take: Take,
    endpoint: str | None = None,
) -> Rows:
    """Take the events that have been due longest and whose endpoints have a free slot.

    Args:
        limit: How many events at most.
        slots: The number of slots of each endpoint that limits its concurrency.
        endpoint: Take only the events of this endpoint. None: those of all.
    """
    free = _free_slots(connection, slots)
    taken: list[sa.Row[Any]] = []
    while True:
        found = _find_due(connection, limit - len(taken), free, endpoint)
        chosen = []
        for row in found:
            if row.endpoint in free:
                if free[row.endpoint] <= 0:
                    continue
                free[row.endpoint] -= 1
            chosen.append(row.id)
        if not chosen:
            return taken
        taken += take(chosen)
        if len(chosen) == len(found) or len(taken) == limit:
            return taken
        # An endpoint has run out of slots: look for events of the others.


def _free_slots(connection: sa.Connection, slots: Mapping[str, int]) -> dict[str, int]:
    if connection.execute(statements.LOCK_SLOTS).scalar() is False:
        # Another process is taking slots: leave those that are free to the next poll.
        return dict.fromkeys(slots, 0)
    free = dict(slots)
    for row in connection.execute(statements.COUNT_SLOTS):
        if row.endpoint in free:
            free[row.endpoint] -= row.taken
    return free


def _find_due(
    connection: sa.Connection, limit: int, free: Mapping[str, int], endpoint: str | None
) -> Rows:
    full = [name for name, slots in free.items() if slots <= 0]
    parameters: dict[str, object] = {"limit": limit, "full": full or [""]}  # IN needs a value
    if endpoint is None:
        return connection.execute(statements.FIND_DUE, parameters).all()
    parameters["endpoint"] = endpoint
    return connection.execute(statements.FIND_DUE_AT, parameters).all()
