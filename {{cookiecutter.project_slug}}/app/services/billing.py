"""Yours: an example of business logic, on tables of its own. Replace it.

Events arrive in any order, so each brings along when it happened. What is older than the status of
a subscription does not change it, one that was cancelled stays cancelled, and `paid_until` never
goes back.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import insert, metadata

subscriptions = sa.Table(
    "subscriptions",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("customer", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("status_since", sa.BigInteger, nullable=False),  # seconds since the epoch
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


async def activate_subscription(
    db: AsyncConnection, subscription_id: str, customer_id: str, happened_at: int
) -> None:
    """The customer has subscribed."""
    await _set_status(db, subscription_id, customer_id, "active", happened_at)


async def extend_subscription(
    db: AsyncConnection, subscription_id: str, customer_id: str, happened_at: int, paid_until: int
) -> None:
    """One more period is paid for."""
    await _set_status(db, subscription_id, customer_id, "active", happened_at)
    known = subscriptions.c.paid_until
    later = sa.case((known > paid_until, known), else_=paid_until)
    one_more = subscriptions.c.periods_paid + 1
    statement = sa.update(subscriptions).where(subscriptions.c.id == subscription_id)
    await db.execute(statement.values(paid_until=later, periods_paid=one_more))


async def mark_payment_failed(
    db: AsyncConnection, subscription_id: str, customer_id: str, happened_at: int
) -> None:
    """The customer owes for a period."""
    await _set_status(db, subscription_id, customer_id, "past_due", happened_at)


async def cancel_subscription(
    db: AsyncConnection, subscription_id: str, customer_id: str, happened_at: int
) -> None:
    """The subscription has ended."""
    await _set_status(db, subscription_id, customer_id, "cancelled", happened_at)


async def mark_order_paid(db: AsyncConnection, order_id: str, amount: int, currency: str) -> None:
    """A single order is paid for."""
    statement = insert(orders).values(id=order_id, amount=amount, currency=currency)
    await db.execute(statement.on_conflict_do_nothing())


async def _set_status(
    db: AsyncConnection, subscription_id: str, customer_id: str, status: str, happened_at: int
) -> None:
    statement = insert(subscriptions).values(
        id=subscription_id, customer=customer_id, status=status, status_since=happened_at
    )
    may_change = subscriptions.c.status != "cancelled"
    if status != "cancelled":
        may_change &= subscriptions.c.status_since <= happened_at
    update = statement.on_conflict_do_update(
        index_elements=["id"],
        set_={"status": status, "status_since": happened_at},
        where=may_change,
    )
    await db.execute(update)
