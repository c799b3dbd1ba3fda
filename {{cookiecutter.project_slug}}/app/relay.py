"""The relay: hands over whatever is due, woken by new events, or by the clock for all others."""

import asyncio
import logging
from contextlib import suppress

from app import queue
from app.config import settings
from app.inbox import Inbox

logger = logging.getLogger(__name__)


async def relay(inbox: Inbox, stopping: asyncio.Event) -> None:
    """Hand over due events until `stopping` is set, whatever happens to database and broker."""
    while not stopping.is_set():
        inbox.arrived.clear()
        try:
            if not await queue.enqueue(inbox):
                with suppress(TimeoutError):
                    # Not by wait_for, which takes a task, and some turns of the event loop.
                    async with asyncio.timeout(settings.sweep_seconds):
                        await inbox.arrived.wait()
        except Exception as error:
            logger.error("nothing handed over: %s; trying again", type(error).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), settings.sweep_seconds)
