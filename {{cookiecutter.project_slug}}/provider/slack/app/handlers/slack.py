"""Yours: what to do about each event, interaction and slash command of Slack.

See https://docs.slack.dev/reference/events and
https://docs.slack.dev/reference/interaction-payloads. To answer somebody, call Slack's API, or post
to the `response_url` of an interaction or a command.
"""

import logging
from typing import Any

from app.events import Event
from app.services import tickets

logger = logging.getLogger(__name__)


async def handle(event: Event) -> None:
    """Handle one event. If this raises, it is tried again.

    What is written in `event.transaction()` happens exactly once. On SQLite, all writers wait while
    it is open: make calls to other services before, with `event.id` as their idempotency key,
    because they may be repeated after a crash.
    """
    data = event.data
    match event.type:
        case "app_mention":
            mention = data["event"]
            async with event.transaction() as db:
                await tickets.open_ticket(db, _name(mention), mention["user"], mention["text"])
        case "message" if _is_for_the_app(data["event"]):
            message = data["event"]
            async with event.transaction() as db:
                await tickets.open_ticket(db, _name(message), message["user"], message["text"])
        case "/ship":
            what = f"ship {data['text']}"
            async with event.transaction() as db:
                await tickets.open_ticket(db, event.id, data["user_id"], what)
        case "view_submission" if data["view"]["callback_id"] == "new_ticket":
            values = data["view"]["state"]["values"]
            what = values["request"]["text"]["value"]
            async with event.transaction() as db:
                await tickets.open_ticket(db, event.id, data["user"]["id"], what)
        case "block_actions":
            async with event.transaction() as db:
                for action in data["actions"]:
                    if action["action_id"] == "close_ticket":
                        await tickets.close_ticket(db, action["value"])
        case _:
            logger.info("no handler for %s %s", event.type, event.id)


def _name(message: dict[str, Any]) -> str:
    """Return the name of a message: the same, whichever event tells of it."""
    return f"{message['channel']}/{message['ts']}"


def _is_for_the_app(message: dict[str, Any]) -> bool:
    """Tell whether a person wrote it to the app alone. The app's own answers are messages, too."""
    return message.get("channel_type") == "im" and not {"bot_id", "subtype"} & message.keys()
