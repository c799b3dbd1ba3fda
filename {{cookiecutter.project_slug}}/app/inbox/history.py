"""The history of events: what happened to each, and replays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.database import NOW, insert
from app.inbox.table import webhook_attempts, webhook_events, webhook_replays

columns = webhook_events.c
now = sa.literal_column(NOW, sa.Double)


@dataclass(frozen=True)
class Moment:
    """Something that happened to an event. Times are in seconds since the epoch."""

    at: float
    what: str
    """`received`, `replayed`, or `attempt` and its number."""
    outcome: str = ""
    """How an attempt ended: see `webhook_attempts`, or `in progress`."""
    ended_at: float | None = None
    who: str = ""
    """Who replayed it, or the process that attempted it, as `host:pid`."""
    error: str = ""
    """The traceback of an attempt, or why it was released."""


def reason(error: str) -> str:
    """Return the line of an error that says most: of a traceback, the one with the exception.

    A message may have several lines, of which SQLAlchemy's last one only names its documentation.
    """
    lines = error.strip().splitlines() or [""]
    last_frame = max((n for n, line in enumerate(lines) if line.startswith('  File "')), default=-1)
    for line in lines[last_frame + 1 :]:
        if not line.startswith(" "):
            return line
    return lines[-1]


def life(connection: sa.Connection, event: sa.Row[Any]) -> list[Moment]:
    """Return what happened to an event, in order of time."""
    moments = [Moment(event.received_at, "received")]
    attempts = sa.select(webhook_attempts).where(webhook_attempts.c.event == event.id)
    moments += [
        Moment(
            at=row.started_at,
            what=f"attempt {row.number}",
            outcome=row.outcome,
            ended_at=row.ended_at,
            who=row.worker or "",
            error=row.error or "",
        )
        for row in connection.execute(attempts.order_by(webhook_attempts.c.number))
    ]
    replays = sa.select(webhook_replays).where(webhook_replays.c.event == event.id)
    moments += [
        Moment(row.replayed_at, "replayed", who=row.replayed_by)
        for row in connection.execute(replays.order_by(webhook_replays.c.id))
    ]
    if event.started_at is not None and event.state != "dead":
        moments.append(
            Moment(
                at=event.started_at,
                what=f"attempt {event.attempts}",
                outcome="in progress" if event.state == "pending" else "done",
                ended_at=event.finished_at,
                who=event.worker or "",
            )
        )
    return sorted(moments, key=lambda moment: moment.at)


def replay(
    connection: sa.Connection, chosen: sa.ColumnElement[bool], replayed_by: str
) -> Sequence[int]:
    """Make finished events due again, with new attempts. Return their ids in the table.

    Args:
        chosen: Which events. Pending and pruned ones among them are left alone.
        replayed_by: Who asked for it, for the record.
    """
    # A successful attempt is recorded only in the event's row, which the update below reuses.
    successes = sa.select(
        columns.id,
        columns.attempts,
        columns.started_at,
        columns.finished_at,
        columns.worker,
        columns.state,
    ).where(chosen, columns.state == "done", columns.started_at.is_not(None))
    names = ["event", "number", "started_at", "ended_at", "worker", "outcome"]
    keep = insert(webhook_attempts).from_select(names, successes).on_conflict_do_nothing()
    connection.execute(keep)

    again = (
        sa.update(webhook_events)
        .where(chosen, columns.state.in_(["done", "dead"]))
        .values(
            state="pending",
            due_at=now,
            failures=0,
            queued=False,
            has_slot=False,
            started_at=None,
            finished_at=None,
        )
        .returning(columns.id)
    )
    ids = connection.scalars(again).all()
    if ids:
        rows = [{"event": event, "replayed_by": replayed_by} for event in ids]
        connection.execute(sa.insert(webhook_replays), rows)
    return ids
