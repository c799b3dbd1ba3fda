"""What `python -m app check` looks at: all that has to be right for events to be handled."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from app.database import NOW
from app.health import find_problem
from app.inbox.engines import create_engine, is_missing
from app.inbox.table import webhook_events
from app.inbox.writers import in_a_thread
from app.schema import NEVER_STARTED
from app.settings import settings
from app.webhooks.endpoint import Endpoint, check_handlers
from app.webhooks.verifier import Verifier

MAX_CLOCK_SECONDS = 5  # by which the clocks of host and database may differ
MAX_WAIT_SECONDS = 60  # for the first attempt of an event
LOOKED_AT = 1000  # waiting events, at most

columns = webhook_events.c


class Verdict(StrEnum):
    """What is thought of something."""

    FINE = "fine"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        text: How it is; if it is wrong, what to do.
    """

    verdict: Verdict
    what: str
    text: str = ""


async def findings() -> AsyncIterator[Finding]:
    """Yield what is found, one thing after the other. The settings were read before."""
    yield Finding(Verdict.FINE, "settings", f"for {settings.environment}")
    try:
        for endpoint in _read_endpoints():
            yield _look_at(endpoint)
    except SystemExit as refusal:
        yield Finding(Verdict.WRONG, "endpoints", str(refusal))
    database = await in_a_thread(_look_at_database)
    for finding in database:
        yield finding
    try:
        problem = await _ask_broker()
    except SystemExit as refusal:
        problem = str(refusal)
    if problem is not None:
        yield Finding(Verdict.WRONG if problem else Verdict.FINE, "broker", problem)


async def _ask_broker() -> str | None:
    from app.processing.queue import broker_problem  # here, because a wrong setting refuses it

    return await broker_problem()


def _read_endpoints() -> list[Endpoint]:
    from app.endpoints import endpoints  # here, because a wrong setting refuses it

    check_handlers(endpoints)
    return list(endpoints)


def _look_at(endpoint: Endpoint) -> Finding:
    verifier = endpoint.verify
    problem = verifier.problem() if isinstance(verifier, Verifier) else ""
    if not problem:
        return Finding(Verdict.FINE, f"endpoint {endpoint.name}")
    in_production = settings.environment == "production"
    verdict = Verdict.WRONG if in_production else Verdict.NOTE
    return Finding(verdict, f"endpoint {endpoint.name}", problem)


def _look_at_database() -> list[Finding]:
    if is_missing():
        return [Finding(Verdict.WRONG, "database", NEVER_STARTED)]
    engine = create_engine()
    try:
        if problem := find_problem(engine):
            return [Finding(Verdict.WRONG, "database", f"{problem.what}: {problem.why}")]
        with engine.connect() as connection:
            now = connection.scalar(sa.select(sa.literal_column(NOW, sa.Double))) or 0.0
            waiting = _wait_for_first_attempt(connection, now)
    finally:
        engine.dispose()
    clock = Finding(Verdict.FINE, "clock")
    if (difference := abs(time.time() - now)) > MAX_CLOCK_SECONDS:
        text = f"differs from the database's by {difference:.0f} s: synchronise both"
        clock = Finding(Verdict.WRONG, "clock", text)
    return [Finding(Verdict.FINE, "database", "its schema is current"), clock, waiting]


def _wait_for_first_attempt(connection: sa.Connection, now: float) -> Finding:
    new = sa.select(columns.received_at).where(columns.due_at.is_not(None), columns.attempts == 0)
    some = new.order_by(columns.due_at).limit(LOOKED_AT).subquery()
    oldest = connection.scalar(sa.select(sa.func.min(some.c.received_at)))
    if oldest is None or now - oldest < MAX_WAIT_SECONDS:
        return Finding(Verdict.FINE, "events", "none waits for long")
    text = f"one has waited for {now - oldest:.0f} s: are the service and its workers running?"
    return Finding(Verdict.WRONG, "events", text)
