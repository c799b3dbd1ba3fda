"""procrastinate: the request defers a job, a worker handles it.

    procrastinate --app=with_procrastinate.jobs worker --concurrency 16

Jobs of a worker that was killed are looked for each minute, as its documentation proposes
("Retry stalled jobs"). The queueing lock refuses an event that waits in the queue already.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from effect import CONNECTIONS, create_engine, mark_order_paid
from fastapi import FastAPI
from procrastinate import App, PsycopgConnector, RetryStrategy
from procrastinate.exceptions import AlreadyEnqueued
from verified import VerifiedEvent

engine = create_engine()
jobs = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"], max_size=CONNECTIONS))


@jobs.task(retry=RetryStrategy(max_attempts=10, wait=1))
async def handle(event: dict[str, Any]) -> None:
    async with engine.begin() as connection:
        await mark_order_paid(connection, event)


@jobs.periodic(cron="* * * * *")
@jobs.task(queueing_lock="retry_stalled_jobs", pass_context=True)
async def retry_stalled_jobs(context: Any, timestamp: int) -> None:
    for job in await jobs.job_manager.get_stalled_jobs():
        await jobs.job_manager.retry_job(job)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with jobs.open_async():
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/stripe")
async def receive(event: VerifiedEvent) -> dict[str, bool]:
    with suppress(AlreadyEnqueued):
        await handle.configure(queueing_lock=event["id"]).defer_async(event=event)
    return {"received": True}
