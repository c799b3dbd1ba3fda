"""The queue is in a Celery broker: for each due event a message, which workers take.

The inbox decides what is handled, when and how often. A message only refers to an event, so the
broker may lose messages, or deliver them twice.
"""

import asyncio
from collections.abc import Sequence

from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.messaging import Producer

from app.inbox.inbox import QUEUE_WINDOW, Inbox, Reference
from app.processing.broker import ATTEMPT, make_celery
from app.webhooks.endpoint import Endpoints


async def broker_problem() -> str | None:
    """Return why the broker cannot be used; "" if it can."""
    try:
        connection = await asyncio.to_thread(_connect, make_celery())
    except (OperationalError, OSError) as error:
        return f"BROKER_URL: {error}: is it running?"
    connection.collect()  # type: ignore[no-untyped-call]
    return ""


def _connect(celery: Celery) -> Connection:
    connection: Connection = celery.connection_for_write()
    connection.ensure_connection(  # type: ignore[no-untyped-call]
        max_retries=1, interval_start=0
    )
    return connection


class Queue:
    """Publishes messages. Workers handle the events."""

    def __init__(self, inbox: Inbox, endpoints: Endpoints) -> None:
        self._inbox = inbox
        self._celery = make_celery()
        self._producer: Producer | None = None

    async def dispatch(self) -> int:
        """Publish a message for each due event; return how many.

        Raises:
            Exception: the broker is away, or refuses messages.
        """
        references: Sequence[Reference] = []
        try:
            if await asyncio.to_thread(self._is_full):
                return 0
            references = await self._inbox.dispatch_due()
            await asyncio.to_thread(self._publish, references)
        except Exception:
            # The next try connects anew: it may be to another server, after a failover.
            await self.close()
            await self._inbox.undispatch(references)
            raise
        return len(references)

    async def close(self) -> None:
        """Disconnect from the broker."""
        await asyncio.to_thread(self._disconnect)

    def _connect(self) -> Producer:
        if self._producer is None:
            connection = _connect(self._celery)
            self._producer = self._celery.amqp.Producer(connection)
        return self._producer

    def _is_full(self) -> bool:
        """Return whether the broker holds so many messages that more would not help.

        Events are dispatched again until a worker takes them. Without a worker, that never ends.
        """
        queue = self._celery.amqp.queues[self._celery.conf.task_default_queue]
        waiting = queue.bind(self._connect().channel).queue_declare().message_count
        return bool(waiting >= QUEUE_WINDOW)

    def _publish(self, references: Sequence[Reference]) -> None:
        for reference in references:
            self._celery.send_task(
                ATTEMPT,
                args=reference,
                producer=self._connect(),
                delivery_mode="transient",
                ignore_result=True,
                retry=False,
            )

    def _disconnect(self) -> None:
        if self._producer is not None:
            self._producer.connection.collect()
            self._producer = None
