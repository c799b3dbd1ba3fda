"""Yours: an example that knows the state of each issue. Replace it.

Events arrive in any order. An older state does not replace a newer one, and an issue that was
removed stays removed.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import insert, metadata

REMOVED = "removed"

issues = sa.Table(
    "issues",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("identifier", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),  # milliseconds since the epoch
)


async def keep_state(
    db: AsyncConnection, issue_id: str, identifier: str, state: str, updated_at: int
) -> None:
    """The issue has this state since then."""
    row = {"identifier": identifier, "state": state, "updated_at": updated_at}
    statement = insert(issues).values(id=issue_id, **row)
    is_newer = (issues.c.state != REMOVED) & (issues.c.updated_at <= updated_at)
    update = statement.on_conflict_do_update(index_elements=["id"], set_=row, where=is_newer)
    await db.execute(update)


async def mark_removed(db: AsyncConnection, issue_id: str, identifier: str) -> None:
    """The issue was removed."""
    row = {"identifier": identifier, "state": REMOVED}
    statement = insert(issues).values(id=issue_id, updated_at=0, **row)
    await db.execute(statement.on_conflict_do_update(index_elements=["id"], set_=row))
