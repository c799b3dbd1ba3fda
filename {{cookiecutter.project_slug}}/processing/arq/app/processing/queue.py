"""The queue is in Redis: for each due event a message, which arq's workers take.

The inbox decides what is handled, when and how often. A message only refers to an event, so Redis
may lose messages, or deliver them twice.
"""

import asyncio
from collections.abc import Sequence

from arq import ArqRedis
from redis.exceptions import RedisError

from app.inbox.inbox import QUEUE_WINDOW, Inbox, Reference
from app.processing.broker import connect, redis_settings, settings
from app.webhooks.endpoint import Endpoints

ATTEMPT = "attempt"
PUBLISH_SECONDS = 5
# Messages are backdated by this, so that a worker whose clock is slow takes them at once. arq logs
# it as a delay.
CLOCK_SECONDS = 3600


async def broker_problem() -> str | None:
    """Return why Redis cannot be used; "" if it can.

    Raises:
        SystemExit: `BROKER_URL` cannot be used.
    """
    try:
        async with asyncio.timeout(PUBLISH_SECONDS):
            redis = await connect()
            await redis.aclose()
    except (RedisError, OSError) as error:
        return f"BROKER_URL: {str(error) or 'Redis does not answer'}: is it running?"
    return ""


class Queue:
    """Publishes messages. Workers handle the events.

    Raises:
        SystemExit: `BROKER_URL` cannot be used.
    """

    def __init__(self, inbox: Inbox, endpoints: Endpoints) -> None:
        redis_settings()
        self._inbox = inbox
        self._redis: ArqRedis | None = None

    async def dispatch(self) -> int:
        """Publish a message for each due event; return how many.

        Raises:
            Exception: Redis is away, or refuses messages.
        """
        references: Sequence[Reference] = []
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                redis = await self._connect()
                # Without a worker, more and more messages would refer to the same events.
                if await redis.zcard(settings.queue_name) >= QUEUE_WINDOW:
                    return 0
            references = await self._inbox.dispatch_due()
            async with asyncio.timeout(PUBLISH_SECONDS):
                for reference in references:
                    await redis.enqueue_job(ATTEMPT, *reference, _defer_by=-CLOCK_SECONDS)
        except Exception:
            await self.close()
            await self._inbox.undispatch(references)
            raise
        return len(references)

    async def close(self) -> None:
        """Disconnect from Redis."""
        if self._redis is not None:
            redis = self._redis
            self._redis = None
            await redis.aclose()

    async def _connect(self) -> ArqRedis:
        if self._redis is None:
            self._redis = await connect()
        return self._redis
