"""Yours: an example that keeps what people ask for in Slack, until it is closed. Replace it.

Events arrive in any order. A ticket that was closed stays closed.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import insert, metadata

tickets = sa.Table(
    "tickets",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("requester", sa.Text),  # both unknown, if the first that is known is its end
    sa.Column("request", sa.Text),
)


async def open_ticket(db: AsyncConnection, ticket_id: str, requester: str, request: str) -> None:
    """Somebody asks for something."""
    row = {"requester": requester, "request": request}
    statement = insert(tickets).values(id=ticket_id, state="open", **row)
    await db.execute(statement.on_conflict_do_update(index_elements=["id"], set_=row))


async def close_ticket(db: AsyncConnection, ticket_id: str) -> None:
    """It is done."""
    row = {"state": "closed"}
    statement = insert(tickets).values(id=ticket_id, **row)
    await db.execute(statement.on_conflict_do_update(index_elements=["id"], set_=row))
