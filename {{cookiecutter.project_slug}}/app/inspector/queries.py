"""What the pages ask of the database.

The inbox has few indexes, because each of them costs every insert. So a page looks at no more than
so many events, and says so. Events are found by their ids, which grow as they arrive.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import sqlalchemy as sa
from fastapi import HTTPException
from pydantic import BaseModel, BeforeValidator, Field

from app.database import is_sqlite
from app.inbox import history
from app.inbox.engines import create_engine
from app.inbox.table import is_dead, webhook_events

PAGE = 50  # events
WINDOW = 10_000  # events that a page looks at, at most
SCATTERED = 2_000  # the same for dead and pending events, which do not lie next to each other
MAX_REPLAYS = 10_000  # events at once
REPLAY_BATCH = 200  # events in a transaction: nobody waits for it noticeably
REPLAY_PAUSE_SECONDS = 0.05
STATEMENT_SECONDS = 2
MAX_ID = 2**63 - 1

columns = webhook_events.c
LISTED = [column for column in columns if column.name not in ("payload", "headers", "error")]


def create_small_engine() -> sa.Engine:
    """Return an engine of two connections whose statements end after `STATEMENT_SECONDS`."""
    engine = create_engine(pool_size=2, max_overflow=0, pool_timeout=STATEMENT_SECONDS)
    sa.event.listen(engine, "begin", _limit_time)
    return engine


def _limit_time(connection: sa.Connection) -> None:
    if not is_sqlite:  # for this transaction only: a pooler gives the session to others
        milliseconds = STATEMENT_SECONDS * 1000
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds:.0f}")
        return
    deadline = time.monotonic() + STATEMENT_SECONDS
    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)


def _none_if_empty(value: object) -> object:
    return value or None  # as a form sends what was not filled in


Id = Annotated[int, Field(ge=1, le=MAX_ID)]
Text = Annotated[str, Field(max_length=255, pattern="^[^\0]*$")]


class Filter(BaseModel):
    """Which events are shown. Its fields are those of the form."""

    state: Literal["", "pending", "done", "dead", "pruned"] = ""
    type: Text = ""
    endpoint: Text = ""
    id: Text = ""
    since: Annotated[datetime | None, BeforeValidator(_none_if_empty)] = None
    """In UTC."""
    before: Annotated[Id | None, BeforeValidator(_none_if_empty)] = None
    """Only events with a smaller id in the table: where the last page ended."""

    def query(self, before: int | None = None) -> str:
        """Return it as the query of a URL."""
        fields = self.model_dump(mode="json", exclude_defaults=True, exclude={"before"})
        return urlencode(fields | ({"before": before} if before else {}))

    @property
    def window(self) -> int:
        """How many events a page looks at."""
        return SCATTERED if self.state in ("dead", "pending") else WINDOW

    def condition(self, before: int) -> sa.ColumnElement[bool]:
        """Return it as SQL that looks at the events of one window, below an id."""
        conditions = [self._window(before), columns.id < before]
        if self.state:
            conditions.append(columns.state == self.state)
        if self.type:
            conditions.append(columns.event_type == self.type)
        if self.endpoint:
            conditions.append(columns.endpoint == self.endpoint)
        if self.since:
            conditions.append(columns.received_at >= self.since.replace(tzinfo=UTC).timestamp())
        return sa.and_(*conditions)

    def _window(self, before: int) -> sa.ColumnElement[bool]:
        if self.id:
            return columns.event_id == self.id
        if self.state == "dead":
            return columns.id.in_(_dead_ids(before).limit(self.window))
        if self.state == "pending":
            due = sa.select(columns.id).where(columns.due_at.is_not(None)).order_by(columns.due_at)
            return columns.id.in_(due.limit(self.window))
        return columns.id >= before - WINDOW

    def end_of_window(self, connection: sa.Connection, before: int) -> int | None:
        """Return the id below which the next window begins, if there is one."""
        if self.id or self.state == "pending":
            return None
        if self.state == "dead":
            return connection.scalar(_dead_ids(before).offset(self.window - 1).limit(1))
        oldest = connection.scalar(sa.select(sa.func.min(columns.id))) or 0
        return before - WINDOW if oldest < before - WINDOW else None


def _dead_ids(before: int) -> sa.Select[int]:
    return sa.select(columns.id).where(is_dead, columns.id < before).order_by(columns.id.desc())


@dataclass(frozen=True)
class Page:
    """A page of events, the newest first.

    Args:
        older: The id below which the next page begins. None: there is none.
        upper: The id below which they are.
    """

    events: Sequence[sa.Row[Any]]
    older: int | None
    upper: int


def find_page(connection: sa.Connection, chosen: Filter) -> Page:
    """Return the events that a filter shows."""
    upper = chosen.before or newest_id(connection) + 1
    query = sa.select(*LISTED).where(chosen.condition(upper)).order_by(columns.id.desc())
    events = connection.execute(query.limit(PAGE + 1)).all()
    if len(events) > PAGE:
        return Page(events[:PAGE], events[PAGE - 1].id, upper)
    return Page(events, chosen.end_of_window(connection, upper), upper)


def newest_id(connection: sa.Connection) -> int:
    """Return the id of the event that arrived last; 0 if there is none."""
    return connection.scalar(sa.select(sa.func.max(columns.id))) or 0


def find_event(
    connection: sa.Connection, event_id: int
) -> tuple[sa.Row[Any], list[history.Moment]]:
    """Return all that is stored about an event, by its id in the table, and its life.

    Raises:
        HTTPException: 404, there is none.
    """
    query = sa.select(webhook_events).where(columns.id == event_id)
    event = connection.execute(query).first()
    if event is None:
        raise HTTPException(404, "there is no such event")
    return event, history.life(connection, event)


def find_replayable(connection: sa.Connection, chosen: sa.ColumnElement[bool]) -> dict[int, str]:
    """Return ids and states of the events that can be replayed, `MAX_REPLAYS` at most."""
    finished = sa.select(columns.id, columns.state).where(
        chosen, columns.state.in_(["done", "dead"])
    )
    rows = connection.execute(finished.order_by(columns.id.desc()).limit(MAX_REPLAYS))
    return {row.id: row.state for row in rows}


def replay(engine: sa.Engine, ids: Sequence[int], replayed_by: str) -> int:
    """Let events be handled again, a few at a time. Return how many."""
    replayed = 0
    for first in range(0, len(ids), REPLAY_BATCH):
        if first:
            time.sleep(REPLAY_PAUSE_SECONDS)  # for others to have their turn
        batch = columns.id.in_(ids[first : first + REPLAY_BATCH])
        with engine.begin() as connection:
            replayed += len(history.replay(connection, batch, replayed_by))
    return replayed
