"""An attempt: the handler is called, and the inbox records how that ended."""

import asyncio
import json
import logging
import time
import traceback
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from opentelemetry import metrics

from app.events import Event, Permanent, parse_json
from app.inbox.group_commit import StoreUnavailable
from app.inbox.inbox import CANCEL_SECONDS, Claim, Inbox, LeaseLost, Outcome, Reference
from app.processing.policy import Policy, policy_of
from app.processing.retry import wait_after
from app.processing.transaction import HandlerTransaction
from app.settings import settings
from app.webhooks.endpoint import Endpoint, Endpoints
from app.webhooks.refusals import InvalidEvent
from app.webhooks.verifier import Verifier

MAX_ERROR_LENGTH = 10_000  # characters of a traceback
MAX_CLAIM_TRIES = 100  # not for ever: the event is dispatched again later

logger = logging.getLogger(__name__)
attempts = metrics.get_meter(__name__).create_counter("events.attempts", description="by outcome")


async def attempt(inbox: Inbox, endpoints: Endpoints, claim: Claim) -> None:
    """Make one attempt at a claimed event, and record how it ended."""
    name = f"{claim.endpoint} {claim.event_type} {claim.event_id} (attempt {claim.failures})"
    policy = policy_of(endpoints.get(claim.endpoint))
    transaction = HandlerTransaction(inbox, endpoints, claim)
    try:
        try:
            await _handle(endpoints, claim, policy, transaction)
        except asyncio.CancelledError:
            # The process is about to end: this attempt does not count.
            if not transaction.committed:
                await inbox.release(claim, reason="the process was about to end")
            raise
        except StoreUnavailable as error:
            # The database's fault: this attempt does not count.
            logger.error("%s: the database is away: %s", name, error)
            reason = f"the database is away: {error}"
            await inbox.release(claim, policy.retry_base_seconds, reason)
        except LeaseLost:
            raise
        except Exception as error:
            if transaction.committed:
                await _keep_late_error(inbox, claim, error, name)
            else:
                await _record_failure(inbox, claim, policy, error, name)
        else:
            if not transaction.committed:
                await inbox.complete(claim)
            attempts.add(1, {"endpoint": claim.endpoint, "outcome": "done"})
    except LeaseLost:
        logger.warning("%s: its lease is lost, a later attempt decides", name)
    except StoreUnavailable:
        logger.error("%s: not recorded, it is repeated when its lease expires", name)


async def attempt_reference(inbox: Inbox, endpoints: Endpoints, reference: Reference) -> None:
    """Attempt the event that a queue message refers to, unless the message is out of date.

    While the database is away, this waits, so that a worker does not use up message after message.
    """
    claim = None
    for _ in range(MAX_CLAIM_TRIES):
        try:
            claim = await _claim_or_release(inbox, inbox.claim(reference))
            break
        except StoreUnavailable:  # already logged
            await asyncio.sleep(settings.poll_interval_seconds)
    if claim is not None:
        await attempt(inbox, endpoints, claim)
        await _attempt_more(inbox, endpoints, endpoints.get(claim.endpoint))


async def _attempt_more(inbox: Inbox, endpoints: Endpoints, endpoint: Endpoint | None) -> None:
    """Attempt further events of an endpoint that limits its concurrency, one after another.

    The dispatcher sends no message for them while the endpoint has no free slot, and may take
    `POLL_INTERVAL_SECONDS` to notice that one has become free.
    """
    if endpoint is None or endpoint.concurrency is None:
        return
    end = time.monotonic() + settings.poll_interval_seconds
    while time.monotonic() < end:
        try:
            claim = await _claim_or_release(inbox, inbox.claim_next(endpoint.name))
        except StoreUnavailable:  # already logged
            return
        if claim is None:
            return
        await attempt(inbox, endpoints, claim)


async def _claim_or_release(inbox: Inbox, call: Coroutine[Any, Any, Claim | None]) -> Claim | None:
    """Await a claim. If that is cancelled, release what was claimed meanwhile."""
    claiming = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(claiming)
    except asyncio.CancelledError:
        with suppress(StoreUnavailable, LeaseLost):
            claim = await claiming
            if claim is not None:
                await inbox.release(claim, reason="the process was about to end")
        raise


async def _handle(
    endpoints: Endpoints, claim: Claim, policy: Policy, transaction: HandlerTransaction
) -> None:
    if claim.follows_lost and claim.failures > policy.max_attempts:
        raise RuntimeError("the last attempt never ended: its process died")
    endpoint = endpoints.get(claim.endpoint)
    if endpoint is None:
        raise LookupError(f"app/endpoints.py has no endpoint {claim.endpoint!r}: add it again")
    event = Event(
        endpoint=claim.endpoint,
        id=claim.event_id,
        type=claim.event_type,
        payload=claim.payload,
        data=_parse(endpoint, claim.payload),
        headers=json.loads(claim.headers or "{}"),
        transaction=transaction,
        then=transaction.then,
    )
    await _run(endpoint.handler(event), policy.handler_timeout_seconds)


def _parse(endpoint: Endpoint, payload: bytes) -> Any:
    verify = endpoint.verify
    try:
        return verify.parse(payload) if isinstance(verify, Verifier) else parse_json(payload)
    except InvalidEvent:
        return None  # a form, for example: the handler has its payload


async def _run(handler: Coroutine[Any, Any, None], timeout_seconds: float) -> None:
    """Run a handler in a task of its own.

    One that ignores its cancellation is left behind, so that others can be handled in its place.

    Raises:
        HandlerTimeoutError: its time was up, and it was cancelled.
        Exception: whatever the handler raised.
    """
    task = asyncio.create_task(_only_exceptions(handler))
    try:
        await asyncio.wait([task], timeout=timeout_seconds)
    except asyncio.CancelledError:
        await _cancel(task)
        raise
    if not task.done():
        await _cancel(task)
        if not task.done() or task.cancelled():
            raise HandlerTimeoutError(timeout_seconds)
    if task.cancelled():
        raise RuntimeError("the handler was cancelled, but not by this service")
    task.result()


class HandlerTimeoutError(TimeoutError):
    """A handler was cancelled because its time was up."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the handler took longer than HANDLER_TIMEOUT_SECONDS: {seconds:g} s")


async def _only_exceptions(handler: Coroutine[Any, Any, None]) -> None:
    """Await a handler. Convert a `SystemExit` or the like, which would end the process."""
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


async def _record_failure(
    inbox: Inbox, claim: Claim, policy: Policy, error: Exception, name: str
) -> None:
    storable = _storable(error)
    kind = type(error).__name__
    is_last = isinstance(error, Permanent) or claim.failures >= policy.max_attempts
    delay = wait_after(error, claim.failures, policy)
    try:
        if is_last:
            await inbox.bury(claim, storable)
        else:
            timed_out = isinstance(error, HandlerTimeoutError)
            outcome = Outcome.TIMED_OUT if timed_out else Outcome.FAILED
            await inbox.retry(claim, delay, storable, outcome)
    except LeaseLost:
        await _keep_late_error(inbox, claim, error, name)
        return
    if is_last:
        logger.error("%s: %s, dead: see python -m app show %s", name, kind, claim.event_id)
    else:
        logger.warning("%s: %s, retry in %.1f s", name, kind, delay)
    attempts.add(1, {"endpoint": claim.endpoint, "outcome": "dead" if is_last else "failed"})


async def _keep_late_error(inbox: Inbox, claim: Claim, error: Exception, name: str) -> None:
    """Keep the error of a handler whose event is done, or was claimed by a later attempt."""
    kind = type(error).__name__
    try:
        await inbox.keep_error(claim, _storable(error))
    except LeaseLost:
        logger.error("%s: %s after another attempt had begun", name, kind)
    else:
        show = f"python -m app show {claim.event_id}"
        logger.error("%s: %s after it was done: see %s", name, kind, show)


def _storable(error: Exception) -> str:
    """Return a traceback as it is stored beside the payload.

    It is not logged: it may quote personal data.
    """
    text = "".join(traceback.format_exception(error))[-MAX_ERROR_LENGTH:]
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\0")
