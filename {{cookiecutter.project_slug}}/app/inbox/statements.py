"""Every statement of the inbox, in SQL that SQLite and PostgreSQL both understand.

Where they differ, a name in braces stands for what the database in use calls it:

    {now}           the database's clock, in seconds since the epoch
    {random}        a random number from 0 to 1
    {skip_locked}   passes over rows that another process has locked. SQLite locks no rows.
    {id}, {attempts}  how the driver spells these parameters
    {no_fsync}      lets the commit of this transaction return before it reaches the disk. On
                    SQLite that is a property of the connection.
"""

from functools import cache

import sqlalchemy as sa

from app.database import NOW, is_sqlite

_SQLITE = {
    "now": NOW,
    "random": "(abs(random()) / 9223372036854775807.0)",
    "skip_locked": "",
    "no_fsync": "1",
    "id": ":id",
    "attempts": ":attempts",
}
_POSTGRESQL = {
    "now": NOW,
    "random": "random()",
    "skip_locked": "FOR UPDATE SKIP LOCKED",
    "no_fsync": "set_config('synchronous_commit', 'off', true)",
    "id": "%(id)s",
    "attempts": "%(attempts)s",
}


_NAMES = _SQLITE if is_sqlite else _POSTGRESQL


def _statement(sql: str) -> sa.TextClause:
    return sa.text(sql.format(**_NAMES))


@cache
def add_events(count: int) -> sa.TextClause:
    """Store as many new events, and return the keys of those that were not there yet.

    What is there is looked up first: ON CONFLICT alone would wait for a transaction that has
    updated the row, such as a handler's. It is left with the inserts of other processes.
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


# The stored event of a duplicate delivery, to compare the two.
FIND_EVENT = _statement(
    """
    SELECT event_type, payload FROM webhook_events
    WHERE event_id = :event_id AND endpoint = :endpoint
    """
)

# Claim the events that have been due longest, but none that another process is claiming.
# The lease of each is up to half as long again, at random: events whose process died are then not
# claimed together again, and one that kills its process does not take the same others with it.
CLAIM_DUE = _statement(
    """
    WITH due AS MATERIALIZED (
        SELECT id FROM webhook_events
        WHERE due_at <= {now} ORDER BY due_at LIMIT :limit {skip_locked}
    )
    UPDATE webhook_events
    SET attempts = attempts + 1,
        failures = failures + 1,
        due_at = {now} + :lease * (1 + {random} / 2),
        queued = FALSE
    WHERE id IN (SELECT id FROM due)
    RETURNING id, attempts, failures, endpoint, event_id, event_type, payload, headers
    """
)

# Claim the event that a queue message refers to, unless it was claimed since, or is finished.
CLAIM_REFERENCE = _statement(
    """
    UPDATE webhook_events
    SET attempts = attempts + 1,
        failures = failures + 1,
        due_at = {now} + :lease * (1 + {random} / 2),
        queued = FALSE
    WHERE id = (
        SELECT id FROM webhook_events
        WHERE id = :id AND attempts = :attempts AND due_at IS NOT NULL {skip_locked}
    )
    RETURNING id, attempts, failures, endpoint, event_id, event_type, payload, headers
    """
)

# Count the events that messages in the broker refer to. One that is due again may have lost its
# message, and is not counted.
COUNT_QUEUED = _statement("SELECT count(*) FROM webhook_events WHERE queued AND due_at > {now}")

# Mark due events as queued. If no worker has claimed them by then, they are due again.
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

# Take back one dispatch whose message could not be published: the event is due at once.
UNDISPATCH = _statement(
    """
    UPDATE webhook_events SET due_at = {now}, queued = FALSE
    WHERE id = (
        SELECT id FROM webhook_events
        WHERE id = :id AND attempts = :attempts AND queued {skip_locked}
    )
    """
)

# Mark the event done in a handler's transaction, if this attempt is still the latest.
# It goes to the driver as it is: SQLAlchemy takes longer for it than the database does.
_COMPLETE_IN_TRANSACTION = """
    UPDATE webhook_events SET state = 'done', due_at = NULL, finished_at = {now}
    WHERE id = {id} AND attempts = {attempts} AND due_at IS NOT NULL
    RETURNING {no_fsync}
"""
COMPLETE_IN_TRANSACTION = _COMPLETE_IN_TRANSACTION.format(**_NAMES)

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
    UPDATE webhook_events SET due_at = {now} + :delay, error = :error
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

# Give an attempt back, so that it does not count: the event is due again after a delay.
RELEASE = _statement(
    """
    UPDATE webhook_events SET due_at = {now} + :delay, failures = failures - 1
    WHERE id = (
        SELECT id FROM webhook_events
        WHERE id = :id AND attempts = :attempts AND due_at IS NOT NULL {skip_locked}
    )
    RETURNING id
    """
)
