"""Slots: how many events of an endpoint are handled at a time, in all processes together.

Only endpoints that limit their concurrency have them. An event takes a slot when it is claimed or
dispatched, and has it until its attempt ends, or its lease. One without a slot stays due, and keeps
nobody waiting: those of other endpoints are found past it.
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
        slots: How many slots each endpoint has that limits its concurrency.
        endpoint: The only endpoint whose events are taken. None: all are.
    """
    free = _free_slots(connection, slots)
    taken: list[sa.Row[Any]] = []
    while True:
        found = _find_due(connection, limit - len(taken), free, endpoint)
        chosen = []
        for row in found:
            if free.get(row.endpoint, 1) > 0:
                chosen.append(row.id)
                if row.endpoint in free:
                    free[row.endpoint] -= 1
        if not chosen:
            return taken
        taken += take(chosen)
        if len(chosen) == len(found) or len(taken) == limit:
            return taken
        # The slots of an endpoint were used up on the way: look past its other events.


def _free_slots(connection: sa.Connection, slots: Mapping[str, int]) -> dict[str, int]:
    if connection.execute(statements.LOCK_SLOTS).scalar() is False:
        # Another process is taking slots, and its transaction ends in a moment.
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
    parameters: dict[str, object] = {"limit": limit, "full": full or [""]}
    if endpoint is None:
        return connection.execute(statements.FIND_DUE, parameters).all()
    parameters["endpoint"] = endpoint
    return connection.execute(statements.FIND_DUE_AT, parameters).all()
