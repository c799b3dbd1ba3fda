"""What the handlers make of Slack's events. Yours: `tests/conftest.py` says how to write them."""

import pytest
import sqlalchemy as sa

from app.services.tickets import tickets
from tests.delivery import Database, Deliver

pytestmark = pytest.mark.anyio

MENTION = "C0SHOP/1793459651.000200"


async def states(database: Database) -> dict[str, str]:
    """Return the state of each ticket."""
    return {row.id: row.state for row in await database.rows(sa.select(tickets))}


async def test_a_mention_opens_a_ticket(deliver: Deliver, database: Database) -> None:
    await deliver("app_mention")

    [ticket] = await database.rows(sa.select(tickets))
    assert (ticket.id, ticket.state, ticket.requester) == (MENTION, "open", "U0ZOE")
    assert ticket.request.endswith("can somebody have a look?")


async def test_a_direct_message_opens_a_ticket(deliver: Deliver, database: Database) -> None:
    await deliver("message")

    [ticket] = await database.rows(sa.select(tickets))
    assert (ticket.id, ticket.requester) == ("D0ZOE/1793459702.000300", "U0ZOE")
    assert ticket.request == "Please add Zoë Müller to the on-call rota"


@pytest.mark.parametrize(
    "change",
    [
        {"event__channel_type": "channel"},
        {"event__bot_id": "B0SHIPBOT"},
        {"event__subtype": "message_changed"},
    ],
    ids=str,
)
async def test_other_messages_are_left_alone(
    deliver: Deliver, database: Database, change: dict[str, str]
) -> None:
    await deliver("message", **change)

    assert await states(database) == {}


async def test_the_command_opens_a_ticket_under_the_id_of_its_event(
    deliver: Deliver, database: Database
) -> None:
    event_id = await deliver("/ship", text="shop 2.2.0 + prices")

    [ticket] = await database.rows(sa.select(tickets))
    assert (ticket.id, ticket.requester) == (event_id, "U0ZOE")
    assert ticket.request == "ship shop 2.2.0 + prices"


async def test_a_modal_opens_a_ticket(deliver: Deliver, database: Database) -> None:
    event_id = await deliver("view_submission")

    [ticket] = await database.rows(sa.select(tickets))
    assert (ticket.id, ticket.requester) == (event_id, "U0ZOE")
    assert ticket.request == "A test shop with last night's orders"


async def test_another_modal_is_left_alone(deliver: Deliver, database: Database) -> None:
    await deliver("view_submission", view__callback_id="feedback")

    assert await states(database) == {}


async def test_a_click_closes_a_ticket(deliver: Deliver, database: Database) -> None:
    await deliver("app_mention")
    await deliver("block_actions")

    assert await states(database) == {MENTION: "closed"}


async def test_another_click_closes_nothing(deliver: Deliver, database: Database) -> None:
    await deliver("app_mention")
    await deliver("block_actions", actions=[{"action_id": "snooze", "value": MENTION}])

    assert await states(database) == {MENTION: "open"}


async def test_a_ticket_that_was_closed_first_stays_closed(
    deliver: Deliver, database: Database
) -> None:
    await deliver("block_actions")
    await deliver("app_mention")

    [ticket] = await database.rows(sa.select(tickets))
    assert (ticket.id, ticket.state, ticket.requester) == (MENTION, "closed", "U0ZOE")


@pytest.mark.parametrize("event_type", ["app_mention", "message", "/ship", "view_submission"])
async def test_no_personal_data_is_logged(
    deliver: Deliver, caplog: pytest.LogCaptureFixture, event_type: str
) -> None:
    caplog.set_level("DEBUG", "app")

    await deliver(event_type)

    assert "zoe" not in caplog.text.lower()
    assert "U0ZOE" not in caplog.text
