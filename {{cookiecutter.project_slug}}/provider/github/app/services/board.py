"""Yours: an example that knows the latest state of each branch, issue and so on. Replace it.

Events arrive in any order. An older state does not replace a newer one, and an installation that
was deleted stays deleted.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import insert, metadata

DELETED = "deleted"

board = sa.Table(
    "board",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),  # seconds since the epoch
)


async def keep_state(db: AsyncConnection, subject: str, state: str, since: int) -> None:
    """The subject, such as `example/shop#12`, has this state since then."""
    row = {"state": state, "since": since}
    statement = insert(board).values(subject=subject, **row)
    is_newer = (board.c.state != DELETED) & (board.c.since <= since)
    update = statement.on_conflict_do_update(index_elements=["subject"], set_=row, where=is_newer)
    await db.execute(update)


async def mark_deleted(db: AsyncConnection, subject: str) -> None:
    """The subject was deleted, and will not come back."""
    statement = insert(board).values(subject=subject, state=DELETED, since=0)
    row = {"state": DELETED}
    await db.execute(statement.on_conflict_do_update(index_elements=["subject"], set_=row))
