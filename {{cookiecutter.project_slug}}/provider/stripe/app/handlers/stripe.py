"""Yours: what to do about each event of Stripe.

The object in `event.data["data"]["object"]` is the one that the type names. See
https://docs.stripe.com/api/events/types.
"""

import logging
from typing import Any

from app.events import Event
from app.services import billing

logger = logging.getLogger(__name__)


async def handle(event: Event) -> None:
    """Handle one event. If this raises, it is tried again.

    What is written in `event.transaction()` happens exactly once. On SQLite, all writers wait while
    it is open: make calls to other services before, with `event.id` as their idempotency key,
    because they may be repeated after a crash.
    """
    if event.data.get("account"):
        logger.info("%s %s is about a connected account: ignored", event.type, event.id)
        return
    created = event.data.get("created")  # events arrive in any order
    match event.type:
        case "checkout.session.completed" | "checkout.session.async_payment_succeeded":
            session = event.data["data"]["object"]
            is_paid = session["payment_status"] != "unpaid"  # a bank debit takes days
            if session["subscription"] and is_paid:
                async with event.transaction() as db:
                    await billing.activate_subscription(
                        db, session["subscription"], session["customer"], created
                    )
        case "invoice.paid":
            invoice = event.data["data"]["object"]
            if subscription_id := _subscription_of(invoice):
                paid_until = max(line["period"]["end"] for line in invoice["lines"]["data"])
                async with event.transaction() as db:
                    await billing.extend_subscription(
                        db, subscription_id, invoice["customer"], created, paid_until
                    )
        case "invoice.payment_failed":
            invoice = event.data["data"]["object"]
            if subscription_id := _subscription_of(invoice):
                async with event.transaction() as db:
                    await billing.mark_payment_failed(
                        db, subscription_id, invoice["customer"], created
                    )
        case "customer.subscription.deleted":
            subscription = event.data["data"]["object"]
            async with event.transaction() as db:
                await billing.cancel_subscription(
                    db, subscription["id"], subscription["customer"], created
                )
        case "payment_intent.succeeded":
            payment = event.data["data"]["object"]
            if order_id := payment["metadata"].get("order_id"):
                async with event.transaction() as db:
                    await billing.mark_order_paid(
                        db, order_id, payment["amount_received"], payment["currency"]
                    )
        case _:
            logger.info("no handler for %s %s", event.type, event.id)


def _subscription_of(invoice: dict[str, Any]) -> str | None:
    """Return the id of the subscription that an invoice is for, if it is for one."""
    parent = invoice["parent"] or {}
    details = parent.get("subscription_details") or {}
    subscription_id: str | None = details.get("subscription")
    return subscription_id
