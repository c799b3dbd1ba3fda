"""arq: the relay puts keys into Redis, workers attempt their events.

The inbox decides what is handled, when and how often; a job is no more than a nudge. Whatever Redis
loses is handed over again, and a job that comes twice finds its key spent.
"""

import asyncio
import logging
import math
from contextlib import suppress
from typing import Any, ClassVar

from arq import ArqRedis, create_pool, func
from arq.connections import RedisSettings
from arq.constants import default_queue_name
from arq.utils import timestamp_ms
from pydantic import Field
from redis.exceptions import RedisError

from app.config import Settings, load
from app.inbox import Inbox
from app.models import Key
from app.processing import process_key
from app.shutdown import ENDING_SECONDS, end_within

BROKER_SECONDS = 5  # for Redis to connect, and to answer
# How old a new job is said to be, so that a worker whose clock is slow takes it at once: in arq's
# log that is its delay.
AGE_SECONDS = 3600
GATHER_SECONDS = 0.01  # for which a job that has begun waits for others, to tell Redis of all


class BrokerSettings(Settings):
    """Where Redis is."""

    broker_url: str = Field(default="", repr=False)


settings = load(BrokerSettings)
if not settings.broker_url.startswith(("redis://", "rediss://", "unix://")):
    raise SystemExit("BROKER_URL is not set to a Redis: write redis://host:6379")
redis = RedisSettings.from_dsn(settings.broker_url)
redis.conn_retries = 0  # the relay tries again

logging.getLogger("arq").propagate = False  # arq writes its own lines

_pool: ArqRedis | None = None


async def enqueue(inbox: Inbox) -> int:
    """Put the keys of what is due into Redis; return how many there were."""
    global _pool
    async with inbox.handover() as keys:
        for key in keys:
            async with asyncio.timeout(BROKER_SECONDS):
                _pool = _pool or await create_pool(redis)
                # As a job of its own each time: what a killed worker leaves of one would block it.
                await _pool.enqueue_job("attempt", *key, _defer_by=-AGE_SECONDS)
    return len(keys)


async def drain() -> None:
    """Disconnect: this process handles no events."""
    global _pool
    if _pool is not None:
        await _pool.aclose()
        _pool = None


async def attempt(ctx: dict[str, Any], id: int, attempts: int) -> None:
    """Attempt an event in the worker."""
    begun: dict[str, float] = ctx["begun"]
    begun[ctx["job_id"]] = timestamp_ms() + 1000 * (WorkerSettings.job_timeout + 10)
    async with asyncio.TaskGroup() as meanwhile:
        if len(begun) == 1:  # the first puts off those that begin soon after it, too
            meanwhile.create_task(_put_off(begun, ctx["redis"]))
        await process_key(ctx["inbox"], Key(id, attempts))


async def _put_off(begun: dict[str, float], redis: ArqRedis) -> None:
    # As if they were due when arq gives them up: or all workers would look at them before what is
    # new, time and again, and for that long if this one is killed.
    try:
        await asyncio.sleep(GATHER_SECONDS)
    finally:
        jobs = begun.copy()
        begun.clear()
    with suppress(RedisError):
        await redis.zadd(default_queue_name, jobs, xx=True)


async def begin(ctx: dict[str, Any]) -> None:
    """Open the inbox of a worker, and bound the end of its process."""
    ctx |= {"inbox": Inbox(), "begun": {}}
    if main := asyncio.current_task():  # which ends before arq waits for what it has cancelled
        main.add_done_callback(lambda _: end_within(ENDING_SECONDS))


async def end(ctx: dict[str, Any]) -> None:
    """Close the inbox of a worker, if it came to be opened."""
    if "inbox" in ctx:
        await ctx["inbox"].close()


class WorkerSettings:
    """What `arq app.queue.WorkerSettings` runs."""

    functions: ClassVar = [func(attempt, keep_result=0, max_tries=1)]
    keep_result = 0  # nobody asks for the result of a job that arq gives up
    redis_settings = redis
    max_jobs = settings.concurrency
    job_timeout = settings.handler_timeout_seconds + 60  # ours ends an attempt before arq's does
    job_completion_wait = math.ceil(settings.drain_seconds)
    poll_delay = 0.1
    on_startup = begin
    on_shutdown = end
