"""The application: `uvicorn app.main:app`."""

import asyncio
import logging
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from app import docs, providers, queue, webhooks
from app.config import settings
from app.inbox import Inbox
from app.relay import relay

logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep an inbox and its relay going for as long as the process serves."""
    stopping = asyncio.Event()
    app.state.inbox = inbox = Inbox()
    relaying = asyncio.create_task(relay(inbox, stopping))
    yield
    stopping.set()
    inbox.arrived.set()
    await relaying
    await queue.drain()
    await inbox.close()


development = settings.environment == "development"
project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8"))

app = FastAPI(
    title=project["project"]["name"],
    description=project["project"]["description"],
    lifespan=lifespan,
    exception_handlers=dict.fromkeys(webhooks.REFUSALS, webhooks.refuse),
    max_body_size=settings.max_body_bytes,
    redirect_slashes=False,  # senders take a redirect for a failure
    docs_url="/docs" if development else None,
    redoc_url=None,
    openapi_url="/openapi.json" if development else None,
)
for name, provider in providers.load().items():
    app.include_router(webhooks.router(name, provider))
if development and docs.FIXTURES.exists():
    docs.add_examples(app)
