"""The inbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
SQLITE_NOW = "((julianday('now') - 2440587.5) * 86400.0)"
POSTGRESQL_NOW = "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"


def upgrade() -> None:
    """Create the tables of events, attempts and replays."""
    on_sqlite = op.get_context().dialect.name == "sqlite"
    now = sa.text(SQLITE_NOW if on_sqlite else POSTGRESQL_NOW)
    op.create_table(
        "webhook_events",
        sa.Column("id", ID, primary_key=True),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("headers", sa.Text),
        sa.Column("received_at", sa.Double, nullable=False, server_default=now),
        sa.Column("state", sa.Text, nullable=False, server_default="pending"),
        sa.Column("due_at", sa.Double, server_default=now),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("queued", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("has_slot", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("started_at", sa.Double),
        sa.Column("worker", sa.Text),
        sa.Column("lost_started_at", sa.Double),
        sa.Column("lost_worker", sa.Text),
        sa.Column("finished_at", sa.Double),
        sa.Column("error", sa.Text),
        sa.UniqueConstraint("event_id", "endpoint"),
        sa.CheckConstraint("(state = 'pending') = (due_at IS NOT NULL)", name="pending_means_due"),
        sqlite_autoincrement=True,
    )
    _create_index("webhook_events_due", ["due_at", "endpoint"], where="due_at IS NOT NULL")
    _create_index("webhook_events_queued", ["due_at"], where="queued")
    _create_index("webhook_events_slots", ["due_at"], where="has_slot AND due_at IS NOT NULL")
    op.create_table(
        "webhook_attempts",
        sa.Column("event", ID, _event(), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("worker", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "webhook_replays",
        sa.Column("id", ID, primary_key=True),
        sa.Column("event", ID, _event(), nullable=False),
        sa.Column("replayed_at", sa.Double, nullable=False, server_default=now),
        sa.Column("replayed_by", sa.Text, nullable=False),
    )
    op.create_index("ix_webhook_replays_event", "webhook_replays", ["event"])


def _create_index(name: str, columns: list[str], where: str) -> None:
    rows = sa.text(where)
    op.create_index(name, "webhook_events", columns, sqlite_where=rows, postgresql_where=rows)


def _event() -> sa.ForeignKey:
    return sa.ForeignKey("webhook_events.id", ondelete="CASCADE")


def downgrade() -> None:
    """Drop the tables, and every event with them."""
    op.drop_table("webhook_replays")
    op.drop_table("webhook_attempts")
    op.drop_table("webhook_events")
