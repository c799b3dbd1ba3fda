"""The worker: arq takes messages, and its event loop handles the events."""

import asyncio
import faulthandler
import json
import logging
import math
import signal
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from arq import func

from app.inbox.inbox import QUEUE_WINDOW, Inbox, Reference
from app.logs import configure_logging
from app.processing.attempt import attempt_reference
from app.processing.broker import for_workers, to_json
from app.processing.broker import settings as broker
from app.processing.policy import policy_of
from app.processing.queue import ATTEMPT
from app.settings import settings
from app.webhooks.endpoint import Endpoint, by_name

MESSAGE_SECONDS = 60  # beyond the attempt itself, such as for a database that is away
END_SECONDS = 5  # for the process to end after its attempts


def make_worker(endpoints: Sequence[Endpoint]) -> type:
    """Return the class of settings with which `arq` runs a worker for these endpoints.

    Raises:
        SystemExit: two endpoints have the same name, or `BROKER_URL` cannot be used.
    """
    named = by_name(endpoints)
    longest = max(policy_of(endpoint).handler_timeout_seconds for endpoint in (None, *endpoints))

    async def attempt(ctx: dict[Any, Any], *args: Any, **_: Any) -> None:
        await attempt_reference(ctx["inbox"], named, Reference(*args))

    class WorkerSettings:
        """See https://arq-docs.helpmanual.io/#arq.worker.Worker."""

        ctx: ClassVar = {"endpoints": named}
        functions: ClassVar = [func(attempt, name=ATTEMPT, keep_result=0, max_tries=1)]
        queue_name = broker.queue_name
        queue_read_limit = 2 * QUEUE_WINDOW  # messages in progress stay in the queue
        redis_settings = for_workers()
        job_serializer = staticmethod(to_json)
        job_deserializer = staticmethod(json.loads)
        keep_result = 0
        max_jobs = settings.concurrency
        job_timeout = longest + settings.poll_interval_seconds + MESSAGE_SECONDS
        job_completion_wait = math.ceil(settings.grace_period_seconds)
        poll_delay = 0.1  # seconds
        on_startup = start
        on_shutdown = stop

    return WorkerSettings


async def start(context: dict[str, Any]) -> None:
    """Set up the process, and open the inbox."""
    bound_the_end()
    configure_logging()
    logging.getLogger("arq").propagate = False  # it writes its own lines
    inbox = Inbox(context["endpoints"])
    await inbox.open()
    context["inbox"] = inbox


async def stop(context: dict[str, Any]) -> None:
    """Close the inbox."""
    if "inbox" in context:
        await context["inbox"].close()


def bound_the_end() -> None:
    """Bound the time that the process has to end: from the signal on, and from arq's end on.

    A thread that hangs would keep it alive, or a Redis that does not answer. The log shows what
    hung.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        # asyncio calls arq's own handler as well.
        signal.signal(number, lambda *_: end_within(settings.grace_period_seconds + END_SECONDS))
    main = asyncio.current_task()
    if main is not None:
        main.add_done_callback(lambda _: end_within(END_SECONDS))


def end_within(seconds: float) -> None:
    """End the process after so many seconds, unless it has ended by then."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)
