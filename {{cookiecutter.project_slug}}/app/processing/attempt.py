"""An attempt: the handler is called, and the inbox records how that ended."""

import asyncio
import json
import logging
import traceback
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from opentelemetry import metrics
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events import Event, parse_json
from app.inbox.group_commit import StoreUnavailable
from app.inbox.inbox import CANCEL_SECONDS, Claim, Inbox, LeaseLost, Reference
from app.processing.retry import backoff
from app.settings import settings
from app.webhooks.endpoint import Endpoints
from app.webhooks.refusals import InvalidEvent

MAX_ERROR_LENGTH = 10_000  # characters of a traceback
MAX_CLAIM_TRIES = 100  # not for ever: the event is dispatched again anyway

logger = logging.getLogger(__name__)
attempts = metrics.get_meter(__name__).create_counter("events.attempts", description="by outcome")


async def attempt(inbox: Inbox, endpoints: Endpoints, claim: Claim) -> None:
    """Make one attempt at a claimed event, and record how it ended."""
    name = f"{claim.endpoint} {claim.event_type} {claim.event_id} (attempt {claim.failures})"
    transaction = HandlerTransaction(inbox, claim)
    try:
        try:
            await _handle(endpoints, claim, transaction)
        except asyncio.CancelledError:
            # The process is about to end: this attempt does not count.
            if not transaction.committed:
                await inbox.release(claim)
            raise
        except StoreUnavailable as error:
            # The database's fault: this attempt does not count.
            logger.error("%s: the database is away: %s", name, error)
            await inbox.release(claim, settings.retry_base_seconds)
        except LeaseLost:
            raise
        except Exception as error:
            if transaction.committed:
                logger.error("%s: %s after it was done", name, type(error).__name__)
            else:
                await _record_failure(inbox, claim, error, name)
        else:
            if not transaction.committed:
                await inbox.complete(claim)
            attempts.add(1, {"endpoint": claim.endpoint, "outcome": "done"})
    except LeaseLost:
        logger.warning("%s: its lease is lost, a later attempt decides", name)
    except StoreUnavailable:
        logger.error("%s: not recorded, it is repeated when its lease expires", name)


async def attempt_reference(inbox: Inbox, endpoints: Endpoints, reference: Reference) -> None:
    """Attempt the event that a queue message refers to, if the message is still good for that.

    While the database is away, this waits, and does not use up message after message.
    """
    claim = None
    for _ in range(MAX_CLAIM_TRIES):
        try:
            claim = await _claim(inbox, reference)
            break
        except StoreUnavailable:  # it is logged
            await asyncio.sleep(settings.poll_interval_seconds)
    if claim is not None:
        await attempt(inbox, endpoints, claim)


async def _claim(inbox: Inbox, reference: Reference) -> Claim | None:
    claiming = asyncio.ensure_future(inbox.claim(reference))
    try:
        return await asyncio.shield(claiming)
    except asyncio.CancelledError:
        # The process is about to end. What it has just claimed is given back.
        with suppress(StoreUnavailable, LeaseLost):
            claim = await claiming
            if claim is not None:
                await inbox.release(claim)
        raise


class HandlerTransaction:
    """The transaction that a handler may open, once: `event.transaction()`."""

    def __init__(self, inbox: Inbox, claim: Claim) -> None:
        self._inbox = inbox
        self._claim = claim
        self._opened = False
        self.committed = False

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[AsyncConnection]:
        """Yield the connection, and commit at the end of the block."""
        if self._opened:
            raise RuntimeError("a handler may open one transaction, and this one has done so")
        self._opened = True
        async with self._inbox.transaction(self._claim) as connection:
            yield connection
        self.committed = True


async def _handle(endpoints: Endpoints, claim: Claim, transaction: HandlerTransaction) -> None:
    if claim.failures > settings.max_attempts:
        raise RuntimeError("the last attempt never ended: its process died")
    endpoint = endpoints.get(claim.endpoint)
    if endpoint is None:
        raise LookupError(f"app/endpoints.py has no endpoint {claim.endpoint!r}: add it again")
    event = Event(
        endpoint=claim.endpoint,
        id=claim.event_id,
        type=claim.event_type,
        payload=claim.payload,
        data=_parse(claim.payload),
        headers=json.loads(claim.headers or "{}"),
        transaction=transaction,
    )
    await _run(endpoint.handler(event))


def _parse(payload: bytes) -> Any:
    try:
        return parse_json(payload)
    except InvalidEvent:
        return None  # such as a form: the verifier accepted it, and the handler has the payload


async def _run(handler: Coroutine[Any, Any, None]) -> None:
    """Wait for a handler, but no longer than `HANDLER_TIMEOUT_SECONDS`.

    It has a task of its own. One that ignores its cancellation is left behind, and does not keep
    its place among those that are handled at a time.
    """
    task = asyncio.create_task(_only_exceptions(handler))
    try:
        await asyncio.wait([task], timeout=settings.handler_timeout_seconds)
    except asyncio.CancelledError:
        await _cancel(task)
        raise
    timed_out = not task.done()
    if timed_out:
        await _cancel(task)
    if not task.done() or (timed_out and task.cancelled()):
        raise TimeoutError("the handler took longer than HANDLER_TIMEOUT_SECONDS")
    if task.cancelled():
        raise RuntimeError("the handler was cancelled, but not by this service")
    task.result()


async def _only_exceptions(handler: Coroutine[Any, Any, None]) -> None:
    """Await a handler. What it raises does not end the process, as `SystemExit` would."""
    try:
        await handler
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:
        raise RuntimeError(f"the handler raised {type(error).__name__}") from error


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task], timeout=CANCEL_SECONDS)
    if not task.done():
        logger.error("a handler ignores its cancellation, and is left behind")


async def _record_failure(inbox: Inbox, claim: Claim, error: Exception, name: str) -> None:
    # The traceback is stored beside the payload and not logged: it may quote personal data.
    text = "".join(traceback.format_exception(error))[-MAX_ERROR_LENGTH:]
    storable = text.encode(errors="backslashreplace").decode().replace("\0", "\\0")
    kind = type(error).__name__
    is_last = claim.failures >= settings.max_attempts
    delay = backoff(claim.failures)
    try:
        if is_last:
            await inbox.bury(claim, storable)
        else:
            await inbox.retry(claim, delay, storable)
    except LeaseLost:
        logger.error("%s: %s after it was done, or taken over", name, kind)
        return
    if is_last:
        logger.error("%s: %s, dead: see python -m app show %s", name, kind, claim.event_id)
    else:
        logger.warning("%s: %s, retry in %.1f s", name, kind, delay)
    attempts.add(1, {"endpoint": claim.endpoint, "outcome": "dead" if is_last else "failed"})
