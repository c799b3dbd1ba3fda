"""The service with handlers that take their time before they do anything: HANDLER_SECONDS."""

import asyncio
import os

from app import handlers, queue
from app.events import Event
from app.main import app

__all__ = ["WorkerSettings", "app", "celery"]

for name, handle in list(handlers.load().items()):

    async def slowly(event: Event, handle: handlers.Handler = handle) -> None:
        await asyncio.sleep(float(os.environ["HANDLER_SECONDS"]))
        await handle(event)

    handlers.load()[name] = slowly

celery = getattr(queue, "celery", None)
WorkerSettings = getattr(queue, "WorkerSettings", None)
