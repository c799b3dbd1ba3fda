"""The queue alone: the project's own Celery, with a task that does nothing.

`celery -A noop_celery worker` counts; `python noop_celery.py NUMBER` publishes as the relay does.
"""

import os
import sys
from itertools import count
from pathlib import Path

from app.queue import celery

COUNTED = Path(os.environ["COUNTED"])
number = count(1)


@celery.task(name="noop")
def noop(id: int, attempts: int) -> None:
    # The first message only shows that the worker is there.
    if next(number) in {1, 1 + int(os.environ["NUMBER"])}:
        with COUNTED.open("a") as file:
            file.write("all of them\n")


if __name__ == "__main__":
    with celery.producer_or_acquire() as producer:
        for id in range(int(sys.argv[1])):
            noop.apply_async((id, 0), producer=producer)
