"""Yours: what to do about each event of GitHub.

The type is the event and its action. See
https://docs.github.com/en/webhooks/webhook-events-and-payloads.
"""

import logging
from datetime import datetime
from typing import Any

from app.events import Event
from app.services import board

logger = logging.getLogger(__name__)


async def handle(event: Event) -> None:
    """Handle one event. If this raises, it is tried again.

    What is written in `event.transaction()` happens exactly once. On SQLite, all writers wait while
    it is open: make calls to other services before, with `event.id` as their idempotency key,
    because they may be repeated after a crash.
    """
    data = event.data
    match event.type:
        case "push":
            branch = f"{_repository(data)} {data['ref']}"
            at = _seconds(data["repository"]["pushed_at"])
            async with event.transaction() as db:
                await board.keep_state(db, branch, data["after"], at)  # 0000… if it was deleted
        case "pull_request.opened" | "pull_request.closed":
            pull_request = data["pull_request"]
            state = "merged" if pull_request["merged"] else pull_request["state"]
            at = _seconds(pull_request["updated_at"])
            async with event.transaction() as db:
                await board.keep_state(db, _numbered(data, pull_request), state, at)
        case "issues.opened":
            issue = data["issue"]
            at = _seconds(issue["updated_at"])
            async with event.transaction() as db:
                await board.keep_state(db, _numbered(data, issue), issue["state"], at)
        case "release.published":
            release = data["release"]
            subject = f"{_repository(data)} {release['tag_name']}"
            at = _seconds(release["published_at"])
            async with event.transaction() as db:
                await board.keep_state(db, subject, "published", at)
        case "installation.created":
            installation = data["installation"]
            at = _seconds(installation["updated_at"])
            async with event.transaction() as db:
                await board.keep_state(db, _installation(data), "installed", at)
        case "installation.deleted":
            async with event.transaction() as db:
                await board.mark_deleted(db, _installation(data))
        case "ping":
            logger.info("webhook %s is connected", data["hook_id"])
        case _:
            logger.info("no handler for %s %s", event.type, event.id)


def _repository(data: dict[str, Any]) -> str:
    return str(data["repository"]["full_name"])


def _numbered(data: dict[str, Any], item: dict[str, Any]) -> str:
    """Return the name of a pull request or an issue: they share their numbers."""
    return f"{_repository(data)}#{item['number']}"


def _installation(data: dict[str, Any]) -> str:
    return f"installation {data['installation']['id']}"


def _seconds(time: str | int) -> int:
    """Return a time in seconds since the epoch. GitHub writes some like that, and some as text."""
    if isinstance(time, int):
        return time
    return int(datetime.fromisoformat(time).timestamp())
