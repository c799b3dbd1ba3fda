"""The figures of the first page. They cover the newest events: see `queries.py`."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.inbox import history
from app.inbox.table import is_dead, webhook_events
from app.inspector.queries import WINDOW, newest_id

SERIES = ("received", "handled", "failed", "dead")
MINUTE, HOUR, DAY = 60, 3600, 86400
MAX_COUNT = 10_000  # a backlog is counted up to here
DEAD_WINDOW = 500  # dead events whose errors are counted
ERROR_LENGTH = 2000  # characters, from the end of a traceback
ROWS = 10  # of each table

columns = webhook_events.c

# What happened in each minute since a time, to events from an id on. A success that somebody has
# replayed since is on record as an attempt.
HAPPENED = sa.text(
    """
    SELECT what, CAST(at AS bigint) / 60 AS minute, count(*) AS number FROM (
        SELECT 'received' AS what, received_at AS at FROM webhook_events WHERE id >= :first
        UNION ALL
        SELECT CASE state WHEN 'dead' THEN 'dead' ELSE 'handled' END, finished_at
        FROM webhook_events WHERE id >= :first AND finished_at IS NOT NULL
        UNION ALL
        SELECT CASE outcome WHEN 'done' THEN 'handled' ELSE 'failed' END, ended_at
        FROM webhook_attempts
        WHERE event >= :first AND outcome IN ('failed', 'timed out', 'done')
    ) AS moments
    WHERE at >= :since GROUP BY what, minute
    """
)


Bars = list[tuple[str, int]]
"""For each minute, or hour: when it began, and how often something happened."""


@dataclass(frozen=True)
class Overview:
    """What the first page shows.

    Args:
        charts: What happened in the last hour by minutes, and in the last day by hours.
        covers_since: When the oldest event was received that the charts and the slowest types
            cover, if they do not cover the day.
        due: How many are due, `MAX_COUNT` at most.
        waiting: The same for those that wait for a retry, or are being handled.
        oldest: The event that has been due longest.
        dead_of_newest: How many dead events that covers; 0 if it covers all of them.
    """

    charts: dict[str, dict[str, Bars]]
    covers_since: float | None
    due: int
    waiting: int
    oldest: sa.Row[Any, Any] | None
    dead: list[tuple[str, str, int]]
    dead_of_newest: int
    slowest: list[sa.Row[Any]]


def look(connection: sa.Connection) -> Overview:
    """Return what there is to see now."""
    now = connection.scalar(sa.select(history.now)) or time.time()
    first = max(newest_id(connection) - WINDOW, 0) + 1
    happened = connection.execute(HAPPENED, {"first": first, "since": now - DAY}).all()
    counts = Counter({(row.what, row.minute): row.number for row in happened})
    begin = sa.select(columns.received_at).where(columns.id >= first).order_by(columns.id).limit(1)
    covered = connection.scalar(begin) or now
    is_older = connection.scalar(sa.select(columns.id).where(columns.id < first).limit(1))
    is_due = columns.due_at <= now
    oldest = sa.select(columns.id, columns.due_at).where(is_due)
    dead = _dead(connection)
    return Overview(
        charts={
            "hour": {each: _bars(counts, each, now, MINUTE) for each in SERIES},
            "day": {each: _bars(counts, each, now, HOUR) for each in SERIES},
        },
        covers_since=covered if is_older and covered > now - DAY else None,
        due=_count(connection, is_due),
        waiting=_count(connection, columns.due_at > now),
        oldest=connection.execute(oldest.order_by(columns.due_at).limit(1)).first(),
        dead=[(*key, number) for key, number in dead.most_common(ROWS)],
        dead_of_newest=DEAD_WINDOW if dead.total() == DEAD_WINDOW else 0,
        slowest=_slowest(connection, first, now - DAY),
    )


def _bars(counts: Counter[tuple[str, int]], what: str, now: float, unit: int) -> Bars:
    """Return what happened in the last hour by minutes, or in the last day by hours."""
    number = {MINUTE: 60, HOUR: 24}[unit]
    last = int(now) // unit
    values: Counter[int] = Counter()
    for (each, minute), count in counts.items():
        if each == what:
            values[minute * MINUTE // unit] += count
    units = range(last - number + 1, last + 1)
    return [(time.strftime("%H:%M", time.gmtime(at * unit)), values[at]) for at in units]


def _count(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> int:
    found = sa.select(sa.literal(1)).where(condition).limit(MAX_COUNT).subquery()
    return connection.scalar(sa.select(sa.func.count()).select_from(found)) or 0


def _dead(connection: sa.Connection) -> Counter[tuple[str, str]]:
    """Return types and errors of the newest dead events, with how many there are of each."""
    end = sa.func.substr(columns.error, sa.func.length(columns.error) - ERROR_LENGTH)
    dead = sa.select(columns.event_type, end.label("error")).where(is_dead)
    rows = connection.execute(dead.order_by(columns.id.desc()).limit(DEAD_WINDOW))
    return Counter((row.event_type, history.reason(row.error or "")) for row in rows)


def _slowest(connection: sa.Connection, first: int, since: float) -> list[sa.Row[Any]]:
    """Return the types whose last attempt took longest on average."""
    took = columns.finished_at - columns.started_at
    query = (
        sa.select(
            columns.event_type,
            sa.func.count().label("number"),
            sa.func.avg(took).label("average"),
            sa.func.max(took).label("longest"),
        )
        .where(columns.id >= first, columns.finished_at >= since, columns.state == "done")
        .group_by(columns.event_type)
        .order_by(sa.func.avg(took).desc())
        .limit(ROWS)
    )
    return list(connection.execute(query))
