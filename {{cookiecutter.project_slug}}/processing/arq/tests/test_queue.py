"""What is under way is in no worker's way."""

import asyncio
from collections.abc import Coroutine

import pytest
from arq import create_pool
from arq.constants import default_queue_name
from arq.utils import timestamp_ms

from app import queue
from app.inbox import Inbox
from tests.support import event

pytestmark = pytest.mark.anyio


async def test_jobs_that_begin_go_to_the_end_of_the_queue(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers look at the first hundred, and there a killed one's would stay for minutes."""
    redis = await create_pool(queue.redis)
    others = await redis.zrange(default_queue_name, 0, -1)  # a real Redis may have some
    for _ in range(4):
        await inbox.add(event())
    assert await queue.enqueue(inbox) == 4
    jobs = [job for job in await redis.zrange(default_queue_name, 0, -1) if job not in others]
    ctx = {"inbox": inbox, "redis": redis, "begun": {}}

    def attempt(job: bytes) -> Coroutine[None, None, None]:
        return queue.attempt(ctx | {"job_id": job.decode()}, 1, 0)

    async def wait_until_others_see(expected: list[bytes]) -> None:
        seen: list[bytes] = []
        async with asyncio.timeout(10):
            while seen != expected:
                soon = await redis.zrangebyscore(default_queue_name, 0, timestamp_ms() + 60_000)
                seen = [job for job in jobs if job in soon]
                await asyncio.sleep(0.001)

    monkeypatch.setattr(queue, "process_key", lambda *_: wait_until_others_see(jobs[2:]))
    await asyncio.gather(attempt(jobs[0]), attempt(jobs[1]))
    monkeypatch.setattr(queue, "process_key", lambda *_: wait_until_others_see(jobs[3:]))
    await attempt(jobs[2])
    assert await redis.zcount(default_queue_name, 0, "inf") >= 4

    await redis.zrem(default_queue_name, *jobs)  # as when they have ended
    monkeypatch.setattr(queue, "process_key", lambda *_: wait_until_others_see([]))
    await attempt(jobs[3])
    assert await redis.zscore(default_queue_name, jobs[3]) is None
    await redis.aclose()
    await queue.drain()
