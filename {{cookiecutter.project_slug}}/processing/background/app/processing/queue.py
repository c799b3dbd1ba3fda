"""The queue is the inbox itself: due events are claimed and handled in this process."""

import asyncio

from app.inbox.inbox import Inbox
from app.processing.attempt import attempt
from app.settings import settings
from app.webhooks.endpoint import Endpoints

RELEASE_SECONDS = 5  # for cancelled attempts to be released


async def broker_problem() -> str | None:
    """Return None: there is no broker."""
    return None


class Queue:
    """Handles events in the web process, at most `CONCURRENCY` of them at a time."""

    def __init__(self, inbox: Inbox, endpoints: Endpoints) -> None:
        self._inbox = inbox
        self._endpoints = endpoints
        self._running: set[asyncio.Task[None]] = set()

    async def dispatch(self) -> int:
        """Start an attempt of each due event, as far as there is room; return how many."""
        free = settings.concurrency - len(self._running)
        claims = await self._inbox.claim_due(free) if free else []
        for claim in claims:
            task = asyncio.create_task(attempt(self._inbox, self._endpoints, claim))
            self._running.add(task)
            task.add_done_callback(self._ended)
        return len(claims)

    async def close(self) -> None:
        """Let handlers run for `GRACE_PERIOD_SECONDS`, and cancel those that are left."""
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=settings.grace_period_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=RELEASE_SECONDS)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._inbox.wake.set()  # there is room for another one
