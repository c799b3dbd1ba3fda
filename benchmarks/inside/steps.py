"""The inbox's own steps, timed one at a time: prints the median milliseconds of each as JSON."""

import asyncio
import json
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable

from app.events import Event
from app.inbox import Inbox
from app.models import Key


async def median(step: Callable[[], Awaitable[object]], times: int) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        await step()
        taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken)


async def main(times: int) -> None:
    inbox = Inbox()
    figures = {"sweep ms": await median(lambda: inbox.claim_due(16), times)}
    events = [
        Event("stripe", f"evt_{uuid.uuid4().hex}", "charge.succeeded", b"{}", {})
        for _ in range(times)
    ]
    await asyncio.gather(*(inbox.add(event) for event in events))
    waiting: list[Key] = []
    claimed: list[Key] = []
    medians = []

    async def claim() -> None:
        key = waiting.pop()
        assert await inbox.claim(key)
        claimed.append(Key(key.id, key.attempts + 1))

    while len(claimed) < times:  # it hands over no more before these are claimed
        async with inbox.handover() as keys:
            waiting += keys
        medians.append(await median(claim, len(waiting)))
    figures["claim ms"] = statistics.median(medians)
    await asyncio.gather(*(inbox.finish(key, "done") for key in claimed))
    await inbox.close()
    print(json.dumps(figures))


asyncio.run(main(int(sys.argv[1])))
