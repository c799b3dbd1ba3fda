"""What the handlers make of Stripe's events. Yours: `tests/conftest.py` says how to write them."""

from typing import Any

import pytest
import sqlalchemy as sa

from app.services.billing import orders, subscriptions
from tests.delivery import Database, Deliver

pytestmark = pytest.mark.anyio

NOW = 1_793_610_850
EARLIER, LATER = NOW - 60, NOW + 60


async def subscription(database: Database) -> Any:
    """Return the only subscription."""
    [row] = await database.rows(sa.select(subscriptions))
    return row


async def test_a_subscription_from_checkout_to_its_end(
    deliver: Deliver, database: Database
) -> None:
    await deliver("checkout.session.completed")
    assert (await subscription(database)).status == "active"

    await deliver("invoice.paid")
    paid = await subscription(database)
    assert (paid.status, paid.paid_until, paid.periods_paid) == ("active", 1796202847, 1)

    await deliver("invoice.payment_failed")
    assert (await subscription(database)).status == "past_due"

    await deliver("customer.subscription.deleted")
    assert (await subscription(database)).status == "cancelled"


async def test_an_order_is_paid(deliver: Deliver, database: Database) -> None:
    await deliver("payment_intent.succeeded")

    [order] = await database.rows(sa.select(orders))
    assert (order.id, order.amount, order.currency) == ("order_1042", 12950, "eur")


async def test_an_event_that_arrives_twice_counts_once(
    deliver: Deliver, database: Database
) -> None:
    for _ in range(2):
        await deliver("invoice.paid", event_id="evt_1")

    assert (await subscription(database)).periods_paid == 1


@pytest.mark.parametrize(
    "late", ["checkout.session.completed", "invoice.paid", "invoice.payment_failed"]
)
@pytest.mark.parametrize("created", [EARLIER, LATER])
async def test_a_cancelled_subscription_stays_cancelled(
    deliver: Deliver, database: Database, late: str, created: int
) -> None:
    await deliver("customer.subscription.deleted", created=NOW)
    await deliver(late, created=created)

    assert (await subscription(database)).status == "cancelled"


async def test_a_cancellation_counts_even_if_it_is_overtaken(
    deliver: Deliver, database: Database
) -> None:
    await deliver("invoice.paid", created=LATER)
    await deliver("customer.subscription.deleted", created=NOW)

    assert (await subscription(database)).status == "cancelled"


async def test_an_older_failure_does_not_undo_a_newer_payment(
    deliver: Deliver, database: Database
) -> None:
    await deliver("checkout.session.completed", created=EARLIER)
    await deliver("invoice.paid", created=LATER)
    await deliver("invoice.payment_failed", created=NOW)
    assert (await subscription(database)).status == "active"

    await deliver("invoice.payment_failed", created=LATER + 1)
    assert (await subscription(database)).status == "past_due"


async def test_an_earlier_period_that_is_paid_later_takes_nothing_away(
    deliver: Deliver, database: Database
) -> None:
    for end in (1_800_000_000, 1_700_000_000):
        await deliver("invoice.paid", data__object__lines={"data": [{"period": {"end": end}}]})

    paid = await subscription(database)
    assert (paid.paid_until, paid.periods_paid) == (1_800_000_000, 2)


@pytest.mark.parametrize(
    ("event_type", "changes"),
    [
        ("checkout.session.completed", {"data__object__payment_status": "unpaid"}),
        ("checkout.session.completed", {"data__object__subscription": None}),
        ("invoice.paid", {"data__object__parent": None}),
        ("invoice.paid", {"account": "acct_1SxOther"}),
        ("invoice.payment_failed", {"data__object__parent": {"subscription_details": None}}),
        ("payment_intent.succeeded", {"data__object__metadata": {}}),
        ("payment_intent.succeeded", {"account": "acct_1SxOther"}),
    ],
)
async def test_what_is_unpaid_or_about_something_else_changes_nothing(
    deliver: Deliver, database: Database, event_type: str, changes: dict[str, Any]
) -> None:
    await deliver(event_type, **changes)

    assert await database.rows(sa.select(subscriptions)) == []
    assert await database.rows(sa.select(orders)) == []


async def test_no_personal_data_is_logged(
    deliver: Deliver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")

    await deliver("invoice.paid")

    assert "zoe.mueller@example.com" not in caplog.text
