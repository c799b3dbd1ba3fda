"""The queue is the inbox itself: due events are claimed and handled in this process."""

import asyncio

from app.config import settings
from app.inbox import Inbox
from app.processing import process

_running: set[asyncio.Task[None]] = set()


async def enqueue(inbox: Inbox) -> int:
    """Begin to handle what is due, at most `CONCURRENCY` at a time; return how many began."""
    if len(_running) >= settings.concurrency:
        await asyncio.wait(_running, timeout=1, return_when=asyncio.FIRST_COMPLETED)
    room = settings.concurrency - len(_running)
    claims = await inbox.claim_due(room) if room else []
    for claim in claims:
        task = asyncio.create_task(process(inbox, claim))
        _running.add(task)
        task.add_done_callback(_running.discard)
    return len(claims)


async def drain() -> None:
    """Let what is being handled finish within `DRAIN_SECONDS`; the rest is due again."""
    if _running:
        _, late = await asyncio.wait(_running, timeout=settings.drain_seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
