"""The queue is the inbox itself: due events are claimed and handled in this process."""

import asyncio

from app.config import settings
from app.inbox import Inbox
from app.processing import process

_running: set[asyncio.Task[None]] = set()
_handling: set[asyncio.Task[None] | None] = set()  # of these, those whose handler has not ended


async def enqueue(inbox: Inbox) -> int:
    """Begin to handle what is due, at most `CONCURRENCY` at a time; return how many began."""

    def handled() -> None:
        _handling.discard(asyncio.current_task())
        inbox.arrived.set()  # there is room: the next is claimed in the commit of this one's end

    room = settings.concurrency - len(_handling)
    claims = await inbox.claim_due(room) if room else []
    for claim in claims:
        task = asyncio.create_task(process(inbox, claim, handled))
        for group in (_running, _handling):
            group.add(task)
            task.add_done_callback(group.discard)
    return len(claims)


async def drain() -> None:
    """Let what is being handled finish within `DRAIN_SECONDS`; the rest is due again."""
    if _running:
        _, late = await asyncio.wait(_running, timeout=settings.drain_seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
