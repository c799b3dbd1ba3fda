"""The life of an event after its acknowledgement: claimed, handled, then done, retried or dead."""

import asyncio
import logging
import random
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from opentelemetry import metrics
from sqlalchemy.ext.asyncio import AsyncConnection

from app import handlers
from app.commits import StoreUnavailable
from app.config import settings
from app.events import Event, LeaseLost, parse_json
from app.inbox import Inbox
from app.models import Claim, Key

ERROR_LENGTH = 10_000  # characters of a traceback that are kept

logger = logging.getLogger(__name__)
attempts = metrics.get_meter(__name__).create_counter("events.attempts", description="by outcome")
handlers.load()  # now: the inbox is to know their tables, and a mistake in one shows at the start


async def process_key(inbox: Inbox, key: Key) -> None:
    """Attempt the event that a queue message names, unless the message is spent."""
    for _ in range(100):  # not for ever: the event will be handed over again
        with suppress(StoreUnavailable):  # it is logged
            if claim := await _claim(inbox, key):
                await process(inbox, claim)
            return
        await asyncio.sleep(settings.sweep_seconds)  # rather than to spend message after message


async def _claim(inbox: Inbox, key: Key) -> Claim | None:
    claiming = inbox.claim(key)
    try:
        return await asyncio.shield(claiming)
    except asyncio.CancelledError:
        # Shutting down: what was being claimed is to be due again at once.
        [claim] = await asyncio.gather(claiming, return_exceptions=True)
        if isinstance(claim, Claim):
            await asyncio.wait([inbox.finish(claim.key, "pending", refund=1)])
        raise


async def process(inbox: Inbox, claim: Claim, handled: Callable[[], None] = lambda: None) -> None:
    """Make one attempt at a claimed event, and record how it ended.

    `handled` is called when the handler has ended, just before that is recorded.
    """
    try:
        await _attempt(inbox, claim, handled)
    except LeaseLost:
        logger.warning("%s: its lease is lost, a later attempt decides", _label(claim))
    except StoreUnavailable:
        logger.error("%s: not recorded, its lease will run out", _label(claim))


async def _attempt(inbox: Inbox, claim: Claim, handled: Callable[[], None]) -> None:
    begun = committed = False

    @asynccontextmanager
    async def transaction() -> AsyncIterator[AsyncConnection]:
        nonlocal begun, committed
        if begun:
            raise RuntimeError("a handler has one transaction, and this one has begun it")
        begun = True
        async with inbox.transaction(claim.key) as connection:
            yield connection
        committed = True

    try:
        try:
            if claim.attempts > claim.attempt_limit:
                raise RuntimeError("the last attempt never ended: its process died")
            event = Event(*claim[3:], parse_json(claim.payload), transaction)
            async with asyncio.timeout(settings.handler_timeout_seconds):
                await handlers.load()[claim.provider](event)
        finally:
            handled()
        if not committed and not await inbox.finish(claim.key, "done"):
            raise LeaseLost
        attempts.add(1, {"provider": claim.provider, "outcome": "done"})
    except (LeaseLost, StoreUnavailable):
        raise
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
            # Shutting down: this attempt does not count, unless that has happened all too often.
            refund = int(claim.attempts < 2 * settings.max_attempts)
            await inbox.finish(claim.key, "pending", refund=refund)
            raise
        if committed:
            logger.error("%s: %s after it was done", _label(claim), type(error).__name__)
        else:
            await _failed(inbox, claim, error)


async def _failed(inbox: Inbox, claim: Claim, error: BaseException) -> None:
    # The traceback goes beside the payload and not into the log: it may quote personal data.
    text = "".join(traceback.format_exception(error))[-ERROR_LENGTH:]
    text = text.encode(errors="backslashreplace").decode().replace("\0", "\\0")
    dead = claim.attempts >= claim.attempt_limit
    delay = backoff(claim.attempts)
    if not await inbox.finish(claim.key, "dead" if dead else "pending", delay, text):
        raise LeaseLost
    level, fate = (logging.ERROR, "dead") if dead else (logging.WARNING, f"again in {delay:.1f} s")
    logger.log(level, "%s: %s, %s", _label(claim), type(error).__name__, fate)
    attempts.add(1, {"provider": claim.provider, "outcome": "dead" if dead else "failed"})


def backoff(attempt: int) -> float:
    """Return the seconds to wait after this attempt: doubling, bounded, and spread at random."""
    most = min(settings.retry_cap_seconds, settings.retry_base_seconds * 2 ** min(attempt - 1, 60))
    return random.uniform(most / 2, most)  # noqa: S311


def _label(claim: Claim) -> str:
    return f"{claim.provider} {claim.type} {claim.event_id} (attempt {claim.attempts})"
