"""Retention: payloads and errors of old events are deleted, and much later their ids, too.

A pruned event keeps its row, without payload and errors, in the state `pruned`. So a redelivery is
still recognised.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from app.database import NOW
from app.inbox import statements
from app.inbox.engines import create_engine
from app.inbox.group_commit import describe
from app.inbox.table import webhook_attempts, webhook_events, webhook_replays
from app.settings import settings

KEEP_IDS_DAYS = 365  # after an event was done: longer than any sender redelivers, even by hand
PAGE = 200  # events in a transaction: so few that nobody waits noticeably
PAUSE_SECONDS = 0.05  # between two pages, so that others can write
DAY_SECONDS = 86400
INTERVAL_SECONDS = DAY_SECONDS  # from one pruning to the next
RETRY_SECONDS = 600  # when the database was away

columns = webhook_events.c
now = sa.literal_column(NOW, sa.Double)

logger = logging.getLogger(__name__)


def prune(
    engine: sa.Engine, days: float, keep_ids_days: float, pause: Callable[[float], object]
) -> tuple[int, int]:
    """Prune the events that were done more than `days` ago. Pending and dead ones stay.

    Args:
        keep_ids_days: How long after an event was done its id is deleted, too.
        pause: Waits for so many seconds. If it returns True, pruning ends early.

    Returns:
        How many were pruned, and how many were forgotten.
    """
    is_old = sa.and_(columns.state == "done", columns.finished_at < now - days * DAY_SECONDS)
    forgotten_at = now - max(days, keep_ids_days) * DAY_SECONDS
    is_forgotten = sa.and_(columns.state == "pruned", columns.finished_at < forgotten_at)
    empty = sa.update(webhook_events).values(state="pruned", payload=b"", error=None)
    pruned = _in_pages(engine, is_old, empty, pause)
    forgotten = _in_pages(engine, is_forgotten, sa.delete(webhook_events), pause)
    return pruned, forgotten


def _in_pages(
    engine: sa.Engine,
    condition: sa.ColumnElement[bool],
    change: sa.Update | sa.Delete,
    pause: Callable[[float], object],
) -> int:
    """Change the events that meet a condition, page by page; return how many."""
    last_id = changed = 0
    while True:
        with engine.connect() as connection:  # reading keeps nobody waiting
            page = sa.select(columns.id).where(condition, columns.id > last_id)
            ids = connection.scalars(page.order_by(columns.id).limit(PAGE)).all()
        if not ids:
            return changed
        with engine.begin() as connection:
            if connection.execute(statements.LOCK_PRUNING).scalar() is False:
                return changed  # another process is pruning
            # Attempts hold errors, too. And SQLite does not cascade when events are deleted.
            for table in (webhook_attempts, webhook_replays):
                connection.execute(sa.delete(table).where(table.c.event.in_(ids)))
            changed += connection.execute(change.where(condition, columns.id.in_(ids))).rowcount
        last_id = ids[-1]
        if pause(PAUSE_SECONDS):
            return changed


@contextmanager
def pruning() -> Iterator[None]:
    """Prune once a day for as long as the block lasts, if `PRUNE_AFTER_DAYS` is set."""
    stopping = threading.Event()
    if settings.prune_after_days is not None:
        # A daemon, so that a database that hangs does not keep the process alive.
        arguments = [settings.prune_after_days, stopping]
        threading.Thread(target=_prune_daily, args=arguments, name="prune", daemon=True).start()
    try:
        yield
    finally:
        stopping.set()


def _prune_daily(days: float, stopping: threading.Event) -> None:
    engine = create_engine()
    while not stopping.is_set():
        try:
            pruned, forgotten = prune(engine, days, KEEP_IDS_DAYS, stopping.wait)
        except sa.exc.DBAPIError as error:
            logger.error("nothing pruned: %s; trying again", describe(error))
            stopping.wait(RETRY_SECONDS)
        else:
            logger.info("%d events pruned, %d forgotten", pruned, forgotten)
            stopping.wait(INTERVAL_SECONDS)
    engine.dispose()
