"""The service and its queue, with handlers that take HANDLER_SECONDS before they do anything."""

import asyncio
import os

from app import handlers
from app.events import Event
from app.main import app as app
from app.queue import *  # noqa: F403

for name, handle in list(handlers.load().items()):

    async def slowly(event: Event, handle: handlers.Handler = handle) -> None:
        await asyncio.sleep(float(os.environ["HANDLER_SECONDS"]))
        await handle(event)

    handlers.load()[name] = slowly
