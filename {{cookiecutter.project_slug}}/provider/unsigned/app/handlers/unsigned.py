"""What to do about the events: yours to edit, type by type."""

import logging

from app.events import Event
from app.services import billing

logger = logging.getLogger(__name__)


async def handle(event: Event) -> None:
    """Handle one event; raise, and it is retried.

    What is done in `event.transaction()` happens exactly once; keep it short, on SQLite all others
    wait for it. Anything else, such as a request to another service, may happen again after a
    crash: make it before the transaction, with `event.id` as its idempotency key.
    """
    data = event.data.get("data")
    match event.type:
        case "subscription.activated":
            async with event.transaction() as db:
                id, customer = data["subscription_id"], data["customer_id"]
                await billing.activate_subscription(db, id, customer)
        case "subscription.extended":
            async with event.transaction() as db:
                id, customer = data["subscription_id"], data["customer_id"]
                await billing.extend_subscription(db, id, customer, data["period_end"])
        case "payment.failed":
            async with event.transaction() as db:
                id, customer = data["subscription_id"], data["customer_id"]
                await billing.mark_payment_failed(db, id, customer)
        case "subscription.cancelled":
            async with event.transaction() as db:
                id, customer = data["subscription_id"], data["customer_id"]
                await billing.cancel_subscription(db, id, customer)
        case "order.paid":
            async with event.transaction() as db:
                order, amount = data["order_id"], data["amount"]
                await billing.mark_order_paid(db, order, amount, data["currency"])
        case _:
            logger.info("no handler for %s %s", event.type, event.id)
