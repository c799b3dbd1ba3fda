"""The worker: Celery's threads take messages, and one event loop handles the events."""

import asyncio
import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Sequence

from celery import Celery, signals
from celery.concurrency import get_implementation, solo, thread
from celery.worker import WorkController
from celery.worker.consumer import Consumer

from app.inbox.inbox import Inbox, Reference
from app.logs import FORMAT
from app.processing.attempt import attempt_reference
from app.processing.broker import ATTEMPT, make_celery
from app.settings import settings
from app.webhooks.endpoint import Endpoint, Endpoints, by_name

END_SECONDS = 5  # for the process to end after GRACE_PERIOD_SECONDS
RECONNECT_SECONDS = 1  # between two attempts
WAITING_MESSAGES = 2  # fetched ahead. Not more, because another worker may be idle

logger = logging.getLogger(__name__)


def make_worker(endpoints: Sequence[Endpoint]) -> Celery:
    """Return the Celery application whose worker handles the events of these endpoints.

    Raises:
        SystemExit: two endpoints have the same name.
    """
    handlers = HandlerLoop(by_name(endpoints))
    celery = make_celery()
    celery.conf.update(
        worker_pool="threads",
        worker_concurrency=settings.concurrency,
        worker_consumer=PersistentConsumer,
        worker_enable_prefetch_count_reduction=False,
        # Only for messages that are acknowledged late, as ours are not. Unset, Celery warns.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_log_format=FORMAT,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
    )

    @celery.task(name=ATTEMPT, ignore_result=True)  # type: ignore[untyped-decorator]
    def attempt(event: int, attempts: int) -> None:
        """Attempt the event that a message refers to."""
        handlers.attempt(Reference(int(event), int(attempts)))

    signals.worker_init.connect(handlers.start, weak=False)
    signals.worker_shutting_down.connect(handlers.shut_down, weak=False)
    signals.worker_shutdown.connect(handlers.stop, weak=False)
    return celery


class PersistentConsumer(Consumer):  # type: ignore[misc]
    """Connects to the broker again after any error.

    Celery's own consumer does so only when the connection is lost. Any other error ends its worker,
    such as a Redis that has become a replica, or that holds something other than a message.
    """

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.connection_errors = (Exception,)
        self.initial_prefetch_count = WAITING_MESSAGES

    def on_connection_error_after_connected(self, error: Exception) -> None:
        """Disconnect, log the error, and wait a little before connecting again."""
        super().on_connection_error_after_connected(error)
        time.sleep(RECONNECT_SECONDS)


class HandlerLoop:
    """The event loop of a worker process, in a thread of its own.

    Each of Celery's threads passes it a message, and waits for the attempt to end. So there are as
    many attempts at a time as Celery has threads.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._attempts: set[asyncio.Task[None]] = set()

    def start(self, sender: WorkController, **_: object) -> None:
        """Open the inbox, and start the thread."""
        if get_implementation(sender.pool_cls) not in (thread.TaskPool, solo.TaskPool):
            raise SystemExit("handlers share one event loop: leave out --pool")
        self._loop = asyncio.new_event_loop()
        self._inbox = Inbox(self._endpoints)
        self._loop.run_until_complete(self._inbox.open())
        threading.Thread(target=self._run, name="handlers", daemon=True).start()

    def attempt(self, reference: Reference) -> None:
        """Attempt an event, and wait for the attempt to end."""
        asyncio.run_coroutine_threadsafe(self._attempt(reference), self._loop).result()

    def shut_down(self, **_: object) -> None:
        """Let attempts run for `GRACE_PERIOD_SECONDS`. Called by the signal handler."""
        seconds = settings.grace_period_seconds
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, self._cancel)
        # An attempt that cannot be cancelled ends with the process, and its traceback is logged.
        faulthandler.dump_traceback_later(
            seconds + END_SECONDS, exit=True, file=sys.__stderr__ or sys.stderr
        )

    def stop(self, **_: object) -> None:
        """Close the inbox. Called when no attempt is left."""
        asyncio.run_coroutine_threadsafe(self._inbox.close(), self._loop).result()

    def _run(self) -> None:
        while True:
            try:
                self._loop.run_forever()
            except SystemExit:
                logger.error("a task that a handler started called sys.exit(): ignored")

    async def _attempt(self, reference: Reference) -> None:
        task = asyncio.create_task(attempt_reference(self._inbox, self._endpoints, reference))
        self._attempts.add(task)
        await asyncio.wait([task])
        self._attempts.discard(task)
        if not task.cancelled():
            task.result()

    def _cancel(self) -> None:
        for task in self._attempts:
            task.cancel()
