"""The table of events.

An event is pending, done or dead. While it is pending, `due_at` says when it wants attention next:
when it may be attempted, or when the lease of the attempt under way runs out. `attempts` counts the
attempts begun, and is the fencing token: an older attempt can no longer finish the event.
Times are in seconds since the epoch, by the database's clock.
"""

from typing import NamedTuple

import sqlalchemy as sa

from app.config import settings
from app.database import metadata, now

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("received_at", sa.Double, nullable=False, server_default=now),
    sa.Column("state", sa.Text, nullable=False, server_default="pending"),
    sa.Column("due_at", sa.Double, server_default=now),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("attempt_limit", sa.Integer, nullable=False, default=settings.max_attempts),
    sa.Column("finished_at", sa.Double),
    sa.Column("error", sa.Text),
    sa.UniqueConstraint("event_id", "provider"),
    sa.CheckConstraint("(state = 'pending') = (due_at IS NOT NULL)", name="pending_means_due"),
    sqlite_autoincrement=True,  # an id is never used twice, or an old message could mean a new row
)
is_pending = inbox.c.due_at.is_not(None)
sa.Index("inbox_due", inbox.c.due_at, sqlite_where=is_pending, postgresql_where=is_pending)


class Key(NamedTuple):
    """A row of the inbox and how often it was attempted: all that a queue message carries.

    A message is thus good for one attempt. Copies of it, and late ones, claim nothing.
    """

    id: int
    attempts: int


class Claim(NamedTuple):
    """The right to attempt an event, until the lease runs out."""

    id: int
    attempts: int
    attempt_limit: int
    provider: str
    event_id: str
    type: str
    payload: bytes

    @property
    def key(self) -> Key:
        """What fences this attempt off from later ones."""
        return Key(self.id, self.attempts)
