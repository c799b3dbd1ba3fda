"""Yours: an example of what Shopify requires about privacy. Replace it.

A request for data has to be answered, and data has to be deleted, within 30 days. What the inbox
keeps of events is data, too: `python -m app prune --days 30` deletes it.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import insert, metadata
from app.services.billing import orders

data_requests = sa.Table(
    "data_requests",
    metadata,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("shop", sa.Text, nullable=False),
    sa.Column("customer_id", sa.BigInteger, nullable=False),
)


def order_key(shop: str, order_id: int) -> str:
    """Return the id under which an order of a shop is kept."""
    return f"{shop}/{order_id}"


async def note_data_request(
    db: AsyncConnection, event_id: str, shop: str, customer_id: int
) -> None:
    """A customer wants to see their data: somebody has to send it to the shop."""
    row = {"event_id": event_id, "shop": shop, "customer_id": customer_id}
    await db.execute(insert(data_requests).values(row).on_conflict_do_nothing())


async def redact_orders(db: AsyncConnection, shop: str, order_ids: Sequence[int]) -> None:
    """A customer's orders must be forgotten."""
    keys = [order_key(shop, order_id) for order_id in order_ids]
    await db.execute(sa.delete(orders).where(orders.c.id.in_(keys)))


async def redact_shop(db: AsyncConnection, shop: str) -> None:
    """The shop has removed the app 48 hours ago: forget all that is known of it."""
    of_shop = orders.c.id.startswith(f"{shop}/", autoescape=True)
    await db.execute(sa.delete(orders).where(of_shop))
    await db.execute(sa.delete(data_requests).where(data_requests.c.shop == shop))
