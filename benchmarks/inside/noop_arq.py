"""The queue alone: the project's own arq settings, with a job that does nothing.

`arq noop_arq.WorkerSettings` counts; `python noop_arq.py NUMBER` enqueues as the relay does.
"""

import asyncio
import os
import sys
import uuid
from itertools import count
from pathlib import Path
from typing import Any

from app import queue
from arq import create_pool, func

COUNTED = Path(os.environ["COUNTED"])
number = count(1)


async def noop(ctx: dict[str, Any], id: int, attempts: int) -> None:
    # The first job only shows that the worker is there.
    if next(number) in {1, 1 + int(os.environ["NUMBER"])}:
        with COUNTED.open("a") as file:
            file.write("all of them\n")


WorkerSettings = dict(vars(queue.WorkerSettings))  # arq looks at no base class
WorkerSettings["functions"] = [func(noop, keep_result=0, max_tries=1)]
WorkerSettings["on_startup"] = WorkerSettings["on_shutdown"] = None


async def enqueue(jobs: int) -> None:
    pool = await create_pool(queue.redis)
    run = uuid.uuid4().hex
    for id in range(jobs):
        await pool.enqueue_job("noop", id, 0, _job_id=f"{run}:{id}")
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(enqueue(int(sys.argv[1])))
