"""The service and its queue, with handlers that take HANDLER_SECONDS before they do anything.

With HANDLER_SECONDS=inf they never end, not even when they are cancelled, and the process is to end
soon all the same.
"""

import asyncio
import os
from contextlib import suppress

from app import handlers, shutdown
from app.events import Event

SECONDS = float(os.environ["HANDLER_SECONDS"])
STUBBORN = float("inf") == SECONDS
if STUBBORN:  # before anything of the service reads it
    shutdown.ENDING_SECONDS = 1

from app.main import app as app  # noqa: E402
from app.queue import *  # noqa: E402, F403

for name, handle in list(handlers.load().items()):

    async def slowly(event: Event, handle: handlers.Handler = handle) -> None:
        while STUBBORN:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        await asyncio.sleep(SECONDS)
        await handle(event)

    handlers.load()[name] = slowly
