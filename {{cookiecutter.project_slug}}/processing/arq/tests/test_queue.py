"""What is under way is in no worker's way."""

import pytest
from arq import create_pool
from arq.constants import default_queue_name
from arq.utils import timestamp_ms

from app import queue
from app.inbox import Inbox
from app.models import Key
from tests.support import event

pytestmark = pytest.mark.anyio


async def test_a_job_that_begins_goes_to_the_end_of_the_queue(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers look at the first hundred, and there a killed one's would stay for minutes."""
    redis = await create_pool(queue.redis)
    others = await redis.zrange(default_queue_name, 0, -1)  # a real Redis may have some
    for _ in range(2):
        await inbox.add(event())
    assert await queue.enqueue(inbox) == 2
    jobs = [job for job in await redis.zrange(default_queue_name, 0, -1) if job not in others]
    first, second = jobs
    looked_at: list[bytes] = []

    async def look(_: Inbox, key: Key) -> None:
        soon = await redis.zrangebyscore(default_queue_name, 0, timestamp_ms() + 60_000)
        looked_at.extend(job for job in jobs if job in soon)

    monkeypatch.setattr(queue, "process_key", look)
    await queue.attempt({"inbox": inbox, "redis": redis, "job_id": first.decode()}, 1, 0)
    assert looked_at == [second]
    assert await redis.zscore(default_queue_name, first) is not None

    await redis.zrem(default_queue_name, *jobs)  # as when they have ended
    await queue.attempt({"inbox": inbox, "redis": redis, "job_id": first.decode()}, 1, 0)
    assert await redis.zscore(default_queue_name, first) is None
    await redis.aclose()
    await queue.drain()
