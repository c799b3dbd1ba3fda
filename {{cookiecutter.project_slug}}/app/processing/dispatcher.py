"""The dispatcher: passes due events to the queue. New ones wake it; for others, it polls."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from app.inbox.group_commit import describe
from app.inbox.inbox import Inbox
from app.processing.queue import Queue
from app.settings import settings
from app.webhooks.endpoint import Endpoints

STOP_SECONDS = 3  # for a dispatch in progress at the end: a broker may hang

logger = logging.getLogger(__name__)


@asynccontextmanager
async def dispatching(inbox: Inbox, endpoints: Endpoints) -> AsyncIterator[None]:
    """Dispatch due events for as long as the block lasts, whatever happens to the broker.

    After that, handlers in this process may keep running for `GRACE_PERIOD_SECONDS`.
    """
    queue = Queue(inbox, endpoints)
    stopping = asyncio.Event()
    dispatcher = asyncio.create_task(_dispatch(inbox, queue, stopping))
    try:
        yield
    finally:
        stopping.set()
        inbox.wake.set()
        await asyncio.wait([dispatcher], timeout=STOP_SECONDS)
        dispatcher.cancel()
        await queue.close()


async def _dispatch(inbox: Inbox, queue: Queue, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        inbox.wake.clear()
        try:
            if await queue.dispatch() == 0:
                await _wait(inbox.wake)
        except Exception as error:
            logger.error("nothing dispatched: %s; trying again", describe(error))
            await _wait(stopping)


async def _wait(event: asyncio.Event) -> None:
    """Wait for an event, or for `POLL_INTERVAL_SECONDS`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(settings.poll_interval_seconds):
            await event.wait()
