"""The application: `uvicorn app.main:app`."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec

from fastapi import FastAPI

from app import providers, queue, webhooks
from app.config import settings
from app.inbox import Inbox
from app.relay import relay
from app.shutdown import ENDING_SECONDS, end_within


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep an inbox and its relay going for as long as the process serves."""
    stopping = asyncio.Event()
    app.state.inbox = inbox = Inbox()
    relaying = asyncio.create_task(relay(inbox, stopping))
    yield
    end_within(settings.drain_seconds + ENDING_SECONDS)
    stopping.set()
    inbox.arrived.set()
    await relaying
    await queue.drain()
    await inbox.close()


development = settings.environment == "development"
# OpenTelemetry looks for its settings at each request anew. They are there at the start, or never.
observed = any(name.startswith(("OTEL_", "FASTAPI_OTEL_")) for name in os.environ)

app = FastAPI(
    title="Webhooks",
    lifespan=lifespan,
    exception_handlers=dict.fromkeys([*webhooks.REFUSALS, 413, 422], webhooks.refuse),
    max_body_size=settings.max_body_bytes,
    redirect_slashes=False,  # senders take a redirect for a failure
    telemetry=None if observed else {"tracing": False, "metrics": False, "logs": False},
    openapi_url="/openapi.json" if development else None,
)
for name, provider in providers.load().items():
    # Not by include_router, which looks for the route once more at each request.
    app.router.routes += webhooks.router(name, provider).routes
if development and find_spec("samples"):
    from samples.docs import add_examples

    add_examples(app)
