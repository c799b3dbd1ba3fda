"""The inbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SQLITE_NOW = "((julianday('now') - 2440587.5) * 86400.0)"
POSTGRESQL_NOW = "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"


def upgrade() -> None:
    """Create the table of events."""
    on_sqlite = op.get_context().dialect.name == "sqlite"
    now = sa.text(SQLITE_NOW if on_sqlite else POSTGRESQL_NOW)
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("received_at", sa.Double, nullable=False, server_default=now),
        sa.Column("state", sa.Text, nullable=False, server_default="pending"),
        sa.Column("due_at", sa.Double, server_default=now),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("queued", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("finished_at", sa.Double),
        sa.Column("error", sa.Text),
        sa.UniqueConstraint("event_id", "endpoint"),
        sa.CheckConstraint("(state = 'pending') = (due_at IS NOT NULL)", name="pending_means_due"),
        sqlite_autoincrement=True,
    )
    _create_index("webhook_events_due", where="due_at IS NOT NULL")
    _create_index("webhook_events_queued", where="queued")


def _create_index(name: str, where: str) -> None:
    some = sa.text(where)
    op.create_index(name, "webhook_events", ["due_at"], sqlite_where=some, postgresql_where=some)


def downgrade() -> None:
    """Drop the table, and every event with it."""
    op.drop_table("webhook_events")
