"""Yours: what to do about each event of Shopify.

The type is the topic, and the body is the resource. See https://shopify.dev/docs/api/webhooks.
Shopify requires handlers for the three topics about privacy of every app in its App Store:
https://shopify.dev/docs/apps/build/compliance/privacy-law-compliance.
"""

import logging
from decimal import Decimal

from app.events import Event
from app.services import billing, privacy
from app.webhooks.shopify import SHOP_HEADER

# Currencies that have no smaller unit.
WHOLE = {"CLP", "ISK", "JPY", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"}

logger = logging.getLogger(__name__)


async def handle(event: Event) -> None:
    """Handle one event. If this raises, it is tried again.

    What is written in `event.transaction()` happens exactly once. On SQLite, all writers wait while
    it is open: make calls to other services before, with `event.id` as their idempotency key,
    because they may be repeated after a crash.
    """
    shop = event.headers.get(SHOP_HEADER, "")
    match event.type:
        case "orders/paid":
            order_id = privacy.order_key(shop, event.data["id"])
            currency = event.data["currency"]
            amount = _smallest_unit(event.data["total_price"], currency)
            async with event.transaction() as db:
                await billing.mark_order_paid(db, order_id, amount, currency)
        case "customers/data_request":
            customer_id = event.data["customer"]["id"]
            async with event.transaction() as db:
                await privacy.note_data_request(
                    db, event.id, event.data["shop_domain"], customer_id
                )
        case "customers/redact":
            order_ids = event.data["orders_to_redact"]
            async with event.transaction() as db:
                await privacy.redact_orders(db, event.data["shop_domain"], order_ids)
        case "shop/redact":
            async with event.transaction() as db:
                await privacy.redact_shop(db, event.data["shop_domain"])
        case "app/uninstalled":
            logger.info("the app was uninstalled from %s", shop)
        case _:
            logger.info("no handler for %s %s", event.type, event.id)


def _smallest_unit(price: str, currency: str) -> int:
    """Return a price such as "409.94" in the smallest unit of its currency."""
    factor = 1 if currency in WHOLE else 100
    return int(Decimal(price) * factor)
