"""Every statement of the inbox, in SQL that SQLite and PostgreSQL both understand.

Where they differ, a name in braces stands for the SQL of the database in use:

    {now}           the database's clock, in seconds since the epoch
    {random}        a random number from 0 to 1
    {skip_locked}   skips rows that another process has locked. SQLite locks no rows.
    {lock_pruning}  locks pruning until the transaction ends; returns FALSE if another process has
                    locked it
    {lock_slots}    locks the slots until the transaction ends; returns FALSE if another process has
                    locked them. On SQLite, this takes the write lock.
"""

from functools import cache
from typing import Any

import sqlalchemy as sa

from app.database import NOW, is_sqlite

SLOTS_LOCK = 453857734521  # arbitrary numbers, the same in all processes
PRUNING_LOCK = 453857734522

_SQLITE = {
    "now": NOW,
    "random": "(abs(random()) / 9223372036854775807.0)",
    "skip_locked": "",
    "lock_pruning": "SELECT TRUE",
    "lock_slots": "UPDATE webhook_events SET id = id WHERE id = 0 RETURNING id",
}
_POSTGRESQL = {
    "now": NOW,
    "random": "random()",
    "skip_locked": "FOR UPDATE SKIP LOCKED",
    "lock_pruning": f"SELECT pg_try_advisory_xact_lock({PRUNING_LOCK})",
    "lock_slots": f"SELECT pg_try_advisory_xact_lock({SLOTS_LOCK})",
}


_NAMES = _SQLITE if is_sqlite else _POSTGRESQL


def _statement(sql: str, **names: str) -> sa.TextClause:
    return sa.text(sql.format(**_NAMES, **names))


@cache
def add_events(count: int) -> sa.TextClause:
    """Store `count` events unless they are stored already; return the keys of the new ones.

    Stored events are looked up first. ON CONFLICT alone would wait for any transaction that has
    updated the row, such as a handler's. It is for the concurrent inserts of other processes.
    """
    rows = [
        f"(CAST(:endpoint_{n} AS text), CAST(:event_id_{n} AS text), :event_type_{n}, :payload_{n},"
        f" CAST(:headers_{n} AS text))"
        for n in range(count)
    ]
    return sa.text(
        f"""
        WITH new (endpoint, event_id, event_type, payload, headers) AS (VALUES {", ".join(rows)})
        INSERT INTO webhook_events (endpoint, event_id, event_type, payload, headers)
        SELECT endpoint, event_id, event_type, payload, headers FROM new
        WHERE NOT EXISTS (
            SELECT 1 FROM webhook_events AS old
            WHERE old.event_id = new.event_id AND old.endpoint = new.endpoint
        )
        ON CONFLICT (event_id, endpoint) DO NOTHING
        RETURNING endpoint, event_id
        """  # noqa: S608
    )


# Find the stored event that a duplicate delivery is compared with.
FIND_EVENT = _statement(
    """
    SELECT event_type, payload, state FROM webhook_events
    WHERE event_id = :event_id AND endpoint = :endpoint
    """
)


# Each lease is lengthened at random, by up to half. So the events of a process that died are not
# claimed together again, and one that kills its process does not kill the same others every time.
_CLAIM = """
    UPDATE webhook_events
    SET attempts = attempts + 1,
        failures = failures + 1,
        lost_started_at = started_at,
        lost_worker = worker,
        started_at = {now},
        worker = :worker,
        due_at = {now} + {lease} * (1 + {random} / 2),
        queued = FALSE"""
_CLAIMED = """
    id, attempts, failures, endpoint, event_id, event_type, payload, headers,
    started_at, lost_started_at, lost_worker
"""


def _claim_statement(sql: str, own_leases: int) -> sa.TextClause:
    """Return a statement that claims events. Some endpoints may have leases of their own."""
    lease = ":lease"
    if own_leases:
        cases = [f"WHEN :endpoint_{n} THEN :lease_{n}" for n in range(own_leases)]
        lease = f"CASE endpoint {' '.join(cases)} ELSE :lease END"
    claim = _CLAIM.format(lease=lease, **_NAMES)
    return _statement(sql, claim=claim, claimed=_CLAIMED)


@cache
def claim_due(own_leases: int) -> sa.TextClause:
    """Claim the events that have been due longest; skip those that others are claiming.

    Args:
        own_leases: How many endpoints have a lease of their own.
    """
    return _claim_statement(
        """
        WITH due AS MATERIALIZED (
            SELECT id FROM webhook_events
            WHERE due_at <= {now} ORDER BY due_at LIMIT :limit {skip_locked}
        )
        {claim} WHERE id IN (SELECT id FROM due) RETURNING {claimed}
        """,
        own_leases,
    )


@cache
def claim_reference(own_leases: int) -> sa.TextClause:
    """Claim the event that a queue message refers to, unless it was claimed since, or is finished.

    An event that had a slot is not claimed either if it is due again: it has lost its slot.
    """
    return _claim_statement(
        """
        {claim}
        WHERE id = (
            SELECT id FROM webhook_events
            WHERE id = :id AND attempts = :attempts AND due_at IS NOT NULL
                AND (due_at > {now} OR NOT has_slot) {skip_locked}
        )
        RETURNING {claimed}
        """,
        own_leases,
    )


# Count the events that messages in the broker refer to. Those that are due again are left out:
# their messages may be lost.
COUNT_QUEUED = _statement("SELECT count(*) FROM webhook_events WHERE queued AND due_at > {now}")

# Mark due events as queued. They are due again after a while, unless a worker claims them.
DISPATCH_DUE = _statement(
    """
    WITH due AS MATERIALIZED (
        SELECT id FROM webhook_events
        WHERE due_at <= {now} ORDER BY due_at LIMIT :limit {skip_locked}
    )
    UPDATE webhook_events SET due_at = {now} + :requeue_after, queued = TRUE
    WHERE id IN (SELECT id FROM due)
    RETURNING id, attempts
    """
)

# If endpoints limit their concurrency, due events are found first. Those that get a slot are then
# claimed or dispatched: see `slots.py`.

# Count the slots that are taken.
COUNT_SLOTS = _statement(
    """
    SELECT endpoint, count(*) AS taken FROM webhook_events
    WHERE has_slot AND due_at IS NOT NULL AND due_at > {now} GROUP BY endpoint
    """
)

# Find the events that have been due longest, except those of endpoints without a free slot.
FIND_DUE = _statement(
    """
    SELECT id, endpoint FROM webhook_events
    WHERE due_at <= {now} AND endpoint NOT IN :full
    ORDER BY due_at LIMIT :limit {skip_locked}
    """
).bindparams(sa.bindparam("full", expanding=True))

# The same, for one endpoint only.
FIND_DUE_AT = _statement(
    """
    SELECT id, endpoint FROM webhook_events
    WHERE due_at <= {now} AND endpoint NOT IN :full AND endpoint = :endpoint
    ORDER BY due_at LIMIT :limit {skip_locked}
    """
).bindparams(sa.bindparam("full", expanding=True))

_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_LIMITED: sa.BindParameter[Any] = sa.bindparam("limited", expanding=True)


@cache
def claim_found(own_leases: int) -> sa.TextClause:
    """Claim the due events that were found. At endpoints with a limit, each takes a slot."""
    statement = _claim_statement(
        """
        {claim}, has_slot = (endpoint IN :limited) WHERE id IN :ids RETURNING {claimed}
        """,
        own_leases,
    )
    return statement.bindparams(_IDS, _LIMITED)


# Mark the due events that were found as queued. At endpoints with a limit, each takes a slot.
DISPATCH_FOUND = _statement(
    """
    UPDATE webhook_events
    SET due_at = {now} + :requeue_after, queued = TRUE, has_slot = (endpoint IN :limited)
    WHERE id IN :ids
    RETURNING id, attempts
    """
).bindparams(_IDS, _LIMITED)

# Keep other processes from taking slots meanwhile.
LOCK_SLOTS = _statement("{lock_slots}")

# Take back one dispatch whose message could not be published: the event is due at once.
UNDISPATCH = _statement(
    """
    UPDATE webhook_events SET due_at = {now}, queued = FALSE, has_slot = FALSE
    WHERE id = (
        SELECT id FROM webhook_events
        WHERE id = :id AND attempts = :attempts AND queued {skip_locked}
    )
    """
)


def complete_in_transaction(event: int, attempts: int) -> str:
    """Mark the event done in a handler's transaction, if this attempt is still the latest.

    The values are part of the text, because PostgreSQL takes several statements at once only if
    they have no parameters. The commit does not wait for the disk. On SQLite, that is a setting of
    the connection.
    """
    no_fsync = "" if is_sqlite else "SET LOCAL synchronous_commit = off;"
    return f"""
        {no_fsync}
        UPDATE webhook_events SET state = 'done', due_at = NULL, finished_at = {NOW}
        WHERE id = {int(event)} AND attempts = {int(attempts)} AND due_at IS NOT NULL
        """  # noqa: S608


# Let one process prune at a time. SQLite has only one writer anyway.
LOCK_PRUNING = _statement("{lock_pruning}")

# Add a follow-up, in the transaction of another event's handler. If that event was replayed, the
# follow-up may be stored already.
ADD_FOLLOW_UP = _statement(
    """
    INSERT INTO webhook_events (endpoint, event_id, event_type, payload)
    VALUES (:endpoint, :event_id, :event_type, :payload)
    ON CONFLICT (event_id, endpoint) DO NOTHING
    """
)

# Mark the event done, if this attempt is still the latest.
COMPLETE = _statement(
    """
    UPDATE webhook_events SET state = 'done', due_at = NULL, finished_at = {now}
    WHERE id = (
        SELECT id FROM webhook_events
        WHERE id = :id AND attempts = :attempts AND due_at IS NOT NULL {skip_locked}
    )
    RETURNING id
    """
)

# Record a failed attempt: the event is due again after a delay.
RETRY = _statement(
    """
    UPDATE webhook_events
    SET due_at = {now} + :delay, has_slot = FALSE, started_at = NULL, error = :error
    WHERE id = (
        SELECT id FROM webhook_events
        WHERE id = :id AND attempts = :attempts AND due_at IS NOT NULL {skip_locked}
    )
    RETURNING id
    """
)

# Record the last failed attempt: the event is dead.
BURY = _statement(
    """
    UPDATE webhook_events SET state = 'dead', due_at = NULL, finished_at = {now}, error = :error
    WHERE id = (
        SELECT id FROM webhook_events
        WHERE id = :id AND attempts = :attempts AND due_at IS NOT NULL {skip_locked}
    )
    RETURNING id
    """
)

# Keep the error of an attempt that failed when its event was done already.
KEEP_ERROR = _statement(
    """
    UPDATE webhook_events SET error = :error
    WHERE id = (
        SELECT id FROM webhook_events
        WHERE id = :id AND attempts = :attempts AND state = 'done' {skip_locked}
    )
    RETURNING id
    """
)

# Record an attempt that does not count: the event is due again after a delay.
RELEASE = _statement(
    """
    UPDATE webhook_events
    SET due_at = {now} + :delay, has_slot = FALSE, started_at = NULL, failures = failures - 1
    WHERE id = (
        SELECT id FROM webhook_events
        WHERE id = :id AND attempts = :attempts AND due_at IS NOT NULL {skip_locked}
    )
    RETURNING id
    """
)

# Record an unsuccessful attempt. Two attempts can have the same number, if PostgreSQL lost a claim
# in a crash.
ADD_ATTEMPT = _statement(
    """
    INSERT INTO webhook_attempts (event, number, started_at, ended_at, worker, outcome, error)
    VALUES (:event, :number, :started_at, {now}, :worker, :outcome, :error)
    ON CONFLICT (event, number) DO NOTHING
    """
)

# Record an attempt that never ended. It has no end, because nobody knows when its process died.
ADD_LOST_ATTEMPT = _statement(
    """
    INSERT INTO webhook_attempts (event, number, started_at, worker, outcome)
    VALUES (:event, :number, :started_at, :worker, 'lost')
    ON CONFLICT (event, number) DO NOTHING
    """
)
