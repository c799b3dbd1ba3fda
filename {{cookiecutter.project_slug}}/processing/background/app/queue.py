"""The queue is the inbox itself: due events are claimed and handled in this process."""

import asyncio

from app.commits import StoreUnavailable
from app.config import settings
from app.inbox import Inbox
from app.models import Claim
from app.processing import process

_running: set[asyncio.Task[None]] = set()
_draining = False


async def enqueue(inbox: Inbox) -> int:
    """Begin to handle what is due, at most `CONCURRENCY` at a time; return how many began."""
    global _draining
    _draining = False
    room = settings.concurrency - len(_running)
    claims = await inbox.claim_due(room) if room else []
    for claim in claims:
        task = asyncio.create_task(_work(inbox, claim))
        _running.add(task)
        task.add_done_callback(_running.discard)
        task.add_done_callback(lambda _: inbox.arrived.set())  # there is room again
    return len(claims)


async def _work(inbox: Inbox, claim: Claim) -> None:
    """Attempt an event, and then whatever else is due."""
    claims = [claim]
    while claims:
        following: list[asyncio.Future[list[Claim]]] = []

        def claim_next(following: list[asyncio.Future[list[Claim]]] = following) -> None:
            if not _draining:
                following.append(inbox.claim_due(1))  # in one transaction with the last one's end

        try:
            await process(inbox, claims[0], claim_next)
            claims = await asyncio.shield(following[0]) if following else []
        except StoreUnavailable:  # it is logged, and the lease will run out
            break
        except asyncio.CancelledError:  # what was claimed meanwhile is due again
            for claimed in following:
                for unused in await claimed:
                    await inbox.finish(unused.key, "pending", delay=0, refund=1)
            raise


async def drain() -> None:
    """Let what is being handled finish within `DRAIN_SECONDS`; the rest is due again."""
    global _draining
    _draining = True
    if _running:
        _, late = await asyncio.wait(_running, timeout=settings.drain_seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
