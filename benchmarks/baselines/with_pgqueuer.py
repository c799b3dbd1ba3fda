"""PgQueuer: the request enqueues a job, a worker handles it: `python with_pgqueuer.py`.

That is what `pgq run with_pgqueuer:work` does, which fails with Typer 0.29.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pgqueuer
import uvloop
from effect import CONNECTIONS, create_engine, mark_order_paid
from fastapi import FastAPI, Request
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.executors import DatabaseRetryEntrypointExecutor
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from verified import VerifiedEvent

URL = os.environ["DATABASE_URL"]

engine = create_engine()


@asynccontextmanager
async def work() -> AsyncIterator[PgQueuer]:
    connection = await asyncpg.connect(URL)
    queue = PgQueuer(AsyncpgDriver(connection))

    @queue.entrypoint("handle", executor_factory=DatabaseRetryEntrypointExecutor)
    async def handle(job: Job) -> None:
        assert job.payload is not None
        async with engine.begin() as transaction:
            await mark_order_paid(transaction, json.loads(job.payload))

    print("the worker begins", flush=True)
    yield queue
    await connection.close()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Queries]]:
    async with asyncpg.create_pool(URL, max_size=CONNECTIONS) as pool:
        yield {"queries": Queries(AsyncpgPoolDriver(pool))}


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/stripe")
async def receive(request: Request, event: VerifiedEvent) -> dict[str, bool]:
    await request.state.queries.enqueue(
        ["handle"],
        [json.dumps(event).encode()],
        [0],
        dedupe_key=[event["id"]],
        on_conflict="skip",
    )
    return {"received": True}


if __name__ == "__main__":
    most = 2 * CONNECTIONS  # it wants at least twice as many as it takes at a time
    uvloop.run(pgqueuer.run(work, batch_size=CONNECTIONS, max_concurrent_tasks=most))
