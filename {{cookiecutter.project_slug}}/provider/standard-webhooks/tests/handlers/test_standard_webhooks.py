"""What the handlers make of the events. Yours: `tests/conftest.py` says how to write them."""

from typing import Any

import pytest
import sqlalchemy as sa

from app.services.billing import orders, subscriptions
from tests.delivery import Database, Deliver

pytestmark = pytest.mark.anyio

EARLIER, NOW, LATER = (f"2026-10-31T16:{minute}:00.5Z" for minute in (13, 14, 15))
LATEST = "2026-10-31T16:15:01.5Z"


async def subscription(database: Database) -> Any:
    """Return the only subscription."""
    [row] = await database.rows(sa.select(subscriptions))
    return row


async def test_a_subscription_from_its_beginning_to_its_end(
    deliver: Deliver, database: Database
) -> None:
    await deliver("subscription.activated")
    assert (await subscription(database)).status == "active"

    await deliver("subscription.extended")
    paid = await subscription(database)
    assert (paid.status, paid.paid_until, paid.periods_paid) == ("active", 1796083200, 1)

    await deliver("payment.failed")
    assert (await subscription(database)).status == "past_due"

    await deliver("subscription.cancelled")
    assert (await subscription(database)).status == "cancelled"


async def test_an_order_is_paid(deliver: Deliver, database: Database) -> None:
    await deliver("order.paid")

    [order] = await database.rows(sa.select(orders))
    assert (order.id, order.amount, order.currency) == ("ORD-7719", 84300, "PLN")


async def test_an_event_that_arrives_twice_counts_once(
    deliver: Deliver, database: Database
) -> None:
    for _ in range(2):
        await deliver("subscription.extended", event_id="evt_1")

    assert (await subscription(database)).periods_paid == 1


@pytest.mark.parametrize(
    "late", ["subscription.activated", "subscription.extended", "payment.failed"]
)
@pytest.mark.parametrize("timestamp", [EARLIER, LATER])
async def test_a_cancelled_subscription_stays_cancelled(
    deliver: Deliver, database: Database, late: str, timestamp: str
) -> None:
    await deliver("subscription.cancelled", timestamp=NOW)
    await deliver(late, timestamp=timestamp)

    assert (await subscription(database)).status == "cancelled"


async def test_a_cancellation_counts_even_if_it_is_overtaken(
    deliver: Deliver, database: Database
) -> None:
    await deliver("subscription.extended", timestamp=LATER)
    await deliver("subscription.cancelled", timestamp=NOW)

    assert (await subscription(database)).status == "cancelled"


async def test_an_older_failure_does_not_undo_a_newer_payment(
    deliver: Deliver, database: Database
) -> None:
    await deliver("subscription.activated", timestamp=EARLIER)
    await deliver("subscription.extended", timestamp=LATER)
    await deliver("payment.failed", timestamp=NOW)
    assert (await subscription(database)).status == "active"

    await deliver("payment.failed", timestamp=LATEST)
    assert (await subscription(database)).status == "past_due"


async def test_an_earlier_period_that_is_paid_later_takes_nothing_away(
    deliver: Deliver, database: Database
) -> None:
    for end in (1_800_000_000, 1_700_000_000):
        await deliver("subscription.extended", data__period_end=end)

    paid = await subscription(database)
    assert (paid.paid_until, paid.periods_paid) == (1_800_000_000, 2)


async def test_no_personal_data_is_logged(
    deliver: Deliver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")

    await deliver("subscription.activated")

    assert "lukasz.wojcik@example.com" not in caplog.text
