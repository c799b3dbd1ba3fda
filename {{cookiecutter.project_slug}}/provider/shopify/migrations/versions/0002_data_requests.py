"""The table of the example, `app/services/privacy.py`."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create it."""
    op.create_table(
        "data_requests",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("shop", sa.Text, nullable=False),
        sa.Column("customer_id", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("data_requests")
