"""What to do about Stripe's events: yours to edit.

The object in `event.data["data"]["object"]` is the one that the event's type names, as documented
at https://docs.stripe.com/api/events/types.
"""

import logging
from typing import Any

from app.events import Event
from app.services import billing

logger = logging.getLogger(__name__)


async def handle(event: Event) -> None:
    """Handle one event; raise, and it is retried.

    What is done in `event.transaction()` happens exactly once; keep it short, on SQLite all others
    wait for it. Anything else, such as a request to another service, may happen again after a
    crash: make it before the transaction, with `event.id` as its idempotency key.
    """
    thing: Any = (event.data.get("data") or {}).get("object")
    async with event.transaction() as db:
        match event.type:
            case "invoice.paid":
                if subscription := _subscription(thing):
                    until = max(line["period"]["end"] for line in thing["lines"]["data"])
                    await billing.extend_subscription(db, subscription, thing["customer"], until)
            case "invoice.payment_failed":
                if subscription := _subscription(thing):
                    await billing.mark_payment_failed(db, subscription, thing["customer"])
            case "checkout.session.completed":
                if subscription := thing["subscription"]:  # none, if it was for something else
                    await billing.activate_subscription(db, subscription, thing["customer"])
            case "customer.subscription.deleted":
                await billing.cancel_subscription(db, thing["id"], thing["customer"])
            case "payment_intent.succeeded":
                if order := thing["metadata"].get("order_id"):
                    money = (thing["amount_received"], thing["currency"])
                    await billing.mark_order_paid(db, order, *money)
            case _:
                logger.info("no handler for %s %s", event.type, event.id)


def _subscription(invoice: dict[str, Any]) -> str | None:
    parent = invoice["parent"] or {}  # none: the invoice is for something else
    subscription: str | None = (parent.get("subscription_details") or {}).get("subscription")
    return subscription
