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
    obj = event.data.get("data")
    async with event.transaction() as db:
        match event.type:
            case "subscription.activated":
                await billing.activate_subscription(db, *_who(obj))
            case "subscription.extended":
                await billing.extend_subscription(db, *_who(obj), obj["period_end"])
            case "payment.failed":
                await billing.mark_payment_failed(db, *_who(obj))
            case "subscription.cancelled":
                await billing.cancel_subscription(db, *_who(obj))
            case "order.paid":
                await billing.mark_order_paid(db, obj["order_id"], obj["amount"], obj["currency"])
            case _:
                logger.info("no handler for %s %s", event.type, event.id)


def _who(obj: dict[str, str]) -> tuple[str, str]:
    return obj["subscription_id"], obj["customer_id"]
