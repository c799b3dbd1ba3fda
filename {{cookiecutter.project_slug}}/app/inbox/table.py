"""The table of events.

An event is pending, done or dead. While it is pending, `due_at` says when it needs attention:
when it may be attempted, or when the lease of the attempt in progress expires.
Times are in seconds since the epoch, by the database's clock.
"""

import sqlalchemy as sa

from app.database import NOW, is_sqlite, metadata

SCHEMA_LOCK = 453857734520  # any number, the same in all processes

now = sa.text(NOW)

webhook_events = sa.Table(
    "webhook_events",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("endpoint", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    # What was kept of the request's headers, as a JSON object; NULL if nothing was.
    sa.Column("headers", sa.Text),
    sa.Column("received_at", sa.Double, nullable=False, server_default=now),
    sa.Column("state", sa.Text, nullable=False, server_default="pending"),
    sa.Column("due_at", sa.Double, server_default=now),
    # How often the event was claimed. Only the latest attempt can end it: the fencing token.
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # Attempts since it was received or replayed that failed, or are in progress. It is dead after
    # MAX_ATTEMPTS of them, and the wait before the next one grows with them.
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    # Whether a message in the broker refers to it.
    sa.Column("queued", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("finished_at", sa.Double),
    sa.Column("error", sa.Text),
    sa.UniqueConstraint("event_id", "endpoint"),
    sa.CheckConstraint("(state = 'pending') = (due_at IS NOT NULL)", name="pending_means_due"),
    # No id is used twice, or an old message could refer to a new event.
    sqlite_autoincrement=True,
)

_is_pending = webhook_events.c.due_at.is_not(None)
_is_queued = sa.text("queued")
sa.Index(
    "webhook_events_due",
    webhook_events.c.due_at,
    sqlite_where=_is_pending,
    postgresql_where=_is_pending,
)
sa.Index(
    "webhook_events_queued",
    webhook_events.c.due_at,
    sqlite_where=_is_queued,
    postgresql_where=_is_queued,
)


def create_tables(connection: sa.Connection) -> None:
    """Create the tables that are missing. Any number of processes may do so at the same time."""
    if is_sqlite:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
    metadata.create_all(connection)
