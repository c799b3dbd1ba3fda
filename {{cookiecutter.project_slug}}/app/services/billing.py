"""An example of business logic on tables of your own: replace it.

Events arrive in any order: a cancelled subscription stays cancelled, and `paid_until` never goes
back, whatever comes later.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import insert, metadata

subscriptions = sa.Table(
    "subscriptions",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("customer", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("paid_until", sa.BigInteger),  # seconds since the epoch
    sa.Column("periods_paid", sa.Integer, nullable=False, default=0),
)
orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("amount", sa.BigInteger, nullable=False),  # in the currency's smallest unit
    sa.Column("currency", sa.Text, nullable=False),
)


async def activate_subscription(db: AsyncConnection, id: str, customer: str) -> None:
    """The customer has subscribed."""
    await _upsert(db, id, customer, status="active")


async def extend_subscription(db: AsyncConnection, id: str, customer: str, paid_until: int) -> None:
    """One more period is paid for."""
    await _upsert(db, id, customer, status="active")
    paid, periods = subscriptions.c.paid_until, subscriptions.c.periods_paid
    latest = sa.case((paid > paid_until, paid), else_=paid_until)
    changes: dict[str, Any] = {"paid_until": latest, "periods_paid": periods + 1}
    await db.execute(sa.update(subscriptions).where(subscriptions.c.id == id).values(**changes))


async def mark_payment_failed(db: AsyncConnection, id: str, customer: str) -> None:
    """The customer owes for a period."""
    await _upsert(db, id, customer, status="past_due")


async def cancel_subscription(db: AsyncConnection, id: str, customer: str) -> None:
    """The subscription has ended."""
    await _upsert(db, id, customer, status="cancelled")


async def mark_order_paid(db: AsyncConnection, id: str, amount: int, currency: str) -> None:
    """A single order is paid for."""
    statement = insert(orders).values(id=id, amount=amount, currency=currency)
    await db.execute(statement.on_conflict_do_nothing())


async def _upsert(db: AsyncConnection, id: str, customer: str, status: str) -> None:
    statement = insert(subscriptions).values(id=id, customer=customer, status=status)
    alive = subscriptions.c.status != "cancelled"
    again: dict[str, Any] = {"index_elements": ["id"], "set_": {"status": status}, "where": alive}
    await db.execute(statement.on_conflict_do_update(**again))
