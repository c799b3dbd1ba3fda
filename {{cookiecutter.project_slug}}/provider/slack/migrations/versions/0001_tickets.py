"""The table of the example, `app/services/tickets.py`."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create it."""
    op.create_table(
        "tickets",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("requester", sa.Text),
        sa.Column("request", sa.Text),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("tickets")
