"""What to do about Stripe's events: yours to edit.

The object in `event.data["data"]["object"]` is the one that the event's type names, as documented
at https://docs.stripe.com/api/events/types.
"""

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
    thing = event.data["data"]["object"]
    async with event.transaction() as db:
        match event.type:
            case "invoice.paid":
                subscription = thing["parent"]["subscription_details"]["subscription"]
                paid_until = max(line["period"]["end"] for line in thing["lines"]["data"])
                await billing.extend_subscription(db, subscription, thing["customer"], paid_until)
            case "invoice.payment_failed":
                subscription = thing["parent"]["subscription_details"]["subscription"]
                await billing.mark_payment_failed(db, subscription, thing["customer"])
            case "checkout.session.completed":
                await billing.activate_subscription(db, thing["subscription"], thing["customer"])
            case "customer.subscription.deleted":
                await billing.cancel_subscription(db, thing["id"], thing["customer"])
            case "payment_intent.succeeded":
                order, amount = thing["metadata"]["order_id"], thing["amount_received"]
                await billing.mark_order_paid(db, order, amount, thing["currency"])
            case _:
                logger.info("no handler for %s %s", event.type, event.id)
