"""Yours: what to do about each event of Linear.

The type is the kind of object and the action. See https://linear.app/developers/webhooks.
"""

import logging
from datetime import datetime

from app.events import Event
from app.services import issues

logger = logging.getLogger(__name__)


async def handle(event: Event) -> None:
    """Handle one event. If this raises, it is tried again.

    What is written in `event.transaction()` happens exactly once. On SQLite, all writers wait while
    it is open: make calls to other services before, with `event.id` as their idempotency key,
    because they may be repeated after a crash.
    """
    data = event.data.get("data")
    match event.type:
        case "Issue.create" | "Issue.update":
            updated = int(datetime.fromisoformat(data["updatedAt"]).timestamp() * 1000)
            async with event.transaction() as db:
                await issues.keep_state(
                    db, data["id"], data["identifier"], data["state"]["name"], updated
                )
        case "Issue.remove":
            async with event.transaction() as db:
                await issues.mark_removed(db, data["id"], data["identifier"])
        case _:
            logger.info("no handler for %s %s", event.type, event.id)
