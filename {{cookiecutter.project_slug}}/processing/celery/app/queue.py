"""Celery: the relay publishes keys, workers attempt their events.

The inbox decides what is handled, when and how often; a message is no more than a nudge. Whatever
the broker loses or delivers twice is handed over again or finds its key spent.
"""

import asyncio
import logging
import os
import threading
from functools import cache
from pathlib import Path

from celery import Celery
from celery.signals import setup_logging, worker_shutting_down
from kombu.transport import filesystem
from pydantic import Field

from app.config import Settings, load
from app.inbox import Inbox
from app.models import Key
from app.processing import process_key
from app.shutdown import ENDING_SECONDS, end_within

BROKER_SECONDS = 5  # for the broker to connect, and to answer
FOLDER = "filesystem://"


class BrokerSettings(Settings):
    """Where the broker is: `redis://...`, `amqp://...` or, for development, a folder."""

    broker_url: str = Field(default=FOLDER + ".broker", repr=False)


settings = load(BrokerSettings)
url = settings.broker_url
if settings.environment == "production" and url.startswith(FOLDER):
    raise SystemExit("BROKER_URL is not set: write redis://host or amqp://user:password@host")

if url.startswith(FOLDER):
    folder = Path(url.removeprefix(FOLDER)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, object] = {"control_folder": f"{folder}/control", "polling_interval": 0.1}
    options |= {"data_folder_in": str(folder), "data_folder_out": str(folder)}
    url = FOLDER
elif url.startswith("amqp"):
    options = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), BROKER_SECONDS)
else:
    options = dict.fromkeys(("socket_connect_timeout", "socket_timeout"), BROKER_SECONDS)

# In the folder a message may be read before it is written: for the worker that is then a lost
# connection, and not its end. The message comes again.
filesystem.Transport.connection_errors += (ValueError,)  # type: ignore[assignment]
celery = Celery("app", broker=url)
celery.conf.update(
    broker_transport_options=options,
    broker_connection_timeout=BROKER_SECONDS,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    task_acks_late=True,
    task_publish_retry=False,  # the relay tries again
    worker_pool="threads",  # they wait while one event loop does the work
    worker_concurrency=settings.concurrency,
    worker_prefetch_multiplier=1,
    worker_enable_prefetch_count_reduction=False,  # a reconnected worker would stay at nothing
)

setup_logging.connect(lambda **_: None, weak=False)  # app/config.py has set it up
logging.getLogger("celery.app.trace").setLevel("WARNING")  # or there are two lines for each message

_running: set[asyncio.Task[None]] = set()
_beginning = threading.Lock()  # for the threads of the pool all begin at once


async def enqueue(inbox: Inbox) -> int:
    """Publish the keys of what is due; return how many there were."""
    async with inbox.handover() as keys:
        await asyncio.to_thread(list, map(attempt.apply_async, keys))  # a list, for map is lazy
    return len(keys)


async def drain() -> None:
    """Do nothing: this process handles no events."""


@celery.task(name="attempt")  # type: ignore[untyped-decorator]
def attempt(id: int, attempts: int) -> None:
    """Attempt an event in the worker."""
    with _beginning:
        inbox, loop = _worker()
    asyncio.run_coroutine_threadsafe(_attempt(inbox, Key(id, attempts)), loop).result()


async def _attempt(inbox: Inbox, key: Key) -> None:
    _running.add(task := asyncio.create_task(process_key(inbox, key)))
    await asyncio.wait([task])
    _running.discard(task)


@cache
def _worker() -> tuple[Inbox, asyncio.AbstractEventLoop]:
    """The one inbox and event loop of a worker process, begun at its first task."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=_run, args=[loop], name="handlers", daemon=True).start()
    # Messages come one by one: with a pause several share a commit, if there are several at a time.
    return Inbox(pause=0.002 if settings.concurrency > 2 else 0), loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        os._exit(1)  # a handler has called sys.exit, and a worker without its loop would only wait


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _shut_down(**details: object) -> None:
    """Let attempts finish within `DRAIN_SECONDS`; the rest is due again."""
    end_within(settings.drain_seconds + ENDING_SECONDS)
    _, loop = _worker()
    late = lambda: [task.cancel() for task in _running]  # noqa: E731
    loop.call_soon_threadsafe(loop.call_later, settings.drain_seconds, late)
