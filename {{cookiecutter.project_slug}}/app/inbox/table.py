"""The tables: events, their attempts that did not end well, and their replays.

A change of them needs a revision in `app/inbox/migrations/versions`.

An event is pending, done or dead, and a done one is pruned in the end. While it is pending,
`due_at` says when it needs attention: when it may be attempted, or when the lease of the attempt
in progress expires.
Times are in seconds since the epoch, by the database's clock.
"""

import sqlalchemy as sa

from app.database import NOW, metadata

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
    # Whether it has a slot, if its endpoint limits how many are handled at a time. It is lost when
    # the event is due again.
    sa.Column("has_slot", sa.Boolean, nullable=False, server_default=sa.false()),
    # When the attempt in progress began, or the one that finished the event, and in which process,
    # as `host:pid`. There is none while it waits for a retry.
    sa.Column("started_at", sa.Double),
    sa.Column("worker", sa.Text),
    # The attempt before it, if that never ended: see `webhook_attempts`.
    sa.Column("lost_started_at", sa.Double),
    sa.Column("lost_worker", sa.Text),
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
    webhook_events.c.endpoint,
    sqlite_where=_is_pending,
    postgresql_where=_is_pending,
)
sa.Index(
    "webhook_events_queued",
    webhook_events.c.due_at,
    sqlite_where=_is_queued,
    postgresql_where=_is_queued,
)
_has_slot = sa.text("has_slot AND due_at IS NOT NULL")
sa.Index(
    "webhook_events_slots",
    webhook_events.c.due_at,
    sqlite_where=_has_slot,
    postgresql_where=_has_slot,
)

is_dead = sa.text("state = 'dead'")
"""As text, by which SQLite finds the index. With a parameter it does not."""
sa.Index(
    "webhook_events_dead",
    webhook_events.c.id,
    sqlite_where=is_dead,
    postgresql_where=is_dead,
)


def _event() -> sa.ForeignKey:
    return sa.ForeignKey("webhook_events.id", ondelete="CASCADE")


webhook_attempts = sa.Table(
    "webhook_attempts",
    metadata,
    sa.Column("event", _event(), primary_key=True),
    # The event's `attempts` when it was claimed.
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    sa.Column("worker", sa.Text),
    # failed, timed out, dead (the last one that failed), released (it does not count), lost (its
    # process died, or took too long), or done (and replayed since).
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
)
"""The attempts that did not end well. The one that did is on record in the event's own row."""

webhook_replays = sa.Table(
    "webhook_replays",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("event", _event(), nullable=False, index=True),
    sa.Column("replayed_at", sa.Double, nullable=False, server_default=now),
    sa.Column("replayed_by", sa.Text, nullable=False),
)
