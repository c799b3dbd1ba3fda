"""Yours: what to do about each event."""

import logging
from datetime import datetime

from app.events import Event
from app.services import billing

logger = logging.getLogger(__name__)


async def handle(event: Event) -> None:
    """Handle one event. If this raises, it is tried again.

    What is written in `event.transaction()` happens exactly once. On SQLite, all writers wait while
    it is open: make calls to other services before, with `event.id` as their idempotency key,
    because they may be repeated after a crash.
    """
    data = event.data.get("data")
    created = _seconds(event.data.get("timestamp"))  # events arrive in any order
    match event.type:
        case "subscription.activated":
            async with event.transaction() as db:
                await billing.activate_subscription(
                    db, data["subscription_id"], data["customer_id"], created
                )
        case "subscription.extended":
            async with event.transaction() as db:
                await billing.extend_subscription(
                    db, data["subscription_id"], data["customer_id"], created, data["period_end"]
                )
        case "payment.failed":
            async with event.transaction() as db:
                await billing.mark_payment_failed(
                    db, data["subscription_id"], data["customer_id"], created
                )
        case "subscription.cancelled":
            async with event.transaction() as db:
                await billing.cancel_subscription(
                    db, data["subscription_id"], data["customer_id"], created
                )
        case "order.paid":
            async with event.transaction() as db:
                await billing.mark_order_paid(
                    db, data["order_id"], data["amount"], data["currency"]
                )
        case _:
            logger.info("no handler for %s %s", event.type, event.id)


def _seconds(timestamp: str | None) -> int:
    """Return a timestamp such as "2026-10-31T16:14:10Z" in seconds since the epoch."""
    return int(datetime.fromisoformat(timestamp).timestamp()) if timestamp else 0
