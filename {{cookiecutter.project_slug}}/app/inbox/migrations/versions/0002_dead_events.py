"""An index of dead events. No other event has an entry in it, so an insert makes none."""

from alembic import op

revision = "0002"
down_revision = "0001"

NAME = "webhook_events_dead"
WHERE = "state = 'dead'"


def upgrade() -> None:
    """Create the index, and hold nobody up."""
    if op.get_context().dialect.name == "sqlite":
        op.execute(f"CREATE INDEX {NAME} ON webhook_events (id) WHERE {WHERE}")
        return
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        op.execute(f"CREATE INDEX CONCURRENTLY {NAME} ON webhook_events (id) WHERE {WHERE}")


def downgrade() -> None:
    """Drop the index."""
    op.drop_index(NAME, "webhook_events")
