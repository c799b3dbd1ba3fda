"""What the handlers make of Shopify's events. Yours: `tests/conftest.py` says how to write them."""

import pytest
import sqlalchemy as sa

from app.services.billing import orders
from app.services.privacy import data_requests
from tests.delivery import Database, Deliver

pytestmark = pytest.mark.anyio

SHOP = "example-shop.myshopify.com"


async def test_an_order_is_paid(deliver: Deliver, database: Database) -> None:
    await deliver("orders/paid")

    [order] = await database.rows(sa.select(orders))
    assert (order.id, order.amount, order.currency) == (f"{SHOP}/820982911946154508", 40994, "EUR")


@pytest.mark.parametrize(("price", "currency", "amount"), [("5", "JPY", 5), ("0.07", "USD", 7)])
async def test_a_price_is_kept_in_the_currency_s_smallest_unit(
    deliver: Deliver, database: Database, price: str, currency: str, amount: int
) -> None:
    await deliver("orders/paid", total_price=price, currency=currency)

    [order] = await database.rows(sa.select(orders))
    assert order.amount == amount


async def test_an_event_that_arrives_twice_counts_once(
    deliver: Deliver, database: Database
) -> None:
    for _ in range(2):
        await deliver("customers/data_request", event_id="evt_1")

    assert await database.rows(sa.select(data_requests)) == [("evt_1", SHOP, 191167)]


async def test_orders_of_a_customer_who_wants_to_be_forgotten_are_deleted(
    deliver: Deliver, database: Database
) -> None:
    await deliver("orders/paid", id=299938)
    await deliver("orders/paid", id=1)

    await deliver("customers/redact")

    [order] = await database.rows(sa.select(orders))
    assert order.id == f"{SHOP}/1"


async def test_all_of_a_shop_that_removed_the_app_is_deleted(
    deliver: Deliver, database: Database
) -> None:
    await deliver("orders/paid")
    await deliver("customers/data_request")

    await deliver("shop/redact", shop_domain="another.myshopify.com")
    assert len(await database.rows(sa.select(orders))) == 1

    await deliver("shop/redact")
    assert await database.rows(sa.select(orders)) == []
    assert await database.rows(sa.select(data_requests)) == []


async def test_an_uninstalled_app_changes_nothing_by_itself(
    deliver: Deliver, database: Database
) -> None:
    await deliver("orders/paid")
    await deliver("app/uninstalled")

    assert len(await database.rows(sa.select(orders))) == 1


async def test_no_personal_data_is_logged(
    deliver: Deliver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")

    await deliver("orders/paid")

    assert "zoe.mueller@example.com" not in caplog.text
