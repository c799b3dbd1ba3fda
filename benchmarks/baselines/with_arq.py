"""arq: the request enqueues a job, a worker handles it: `arq with_arq.WorkerSettings`."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq import ArqRedis, create_pool
from arq.connections import RedisSettings
from effect import create_engine, mark_order_paid
from fastapi import FastAPI, Request
from verified import VerifiedEvent

engine = create_engine()
redis = RedisSettings.from_dsn(os.environ["BROKER_URL"])


async def handle(ctx: dict[str, Any], event: dict[str, Any]) -> None:
    async with engine.begin() as connection:
        await mark_order_paid(connection, event)


def serialize(job: dict[str, Any]) -> bytes:
    return json.dumps(job).encode()


class WorkerSettings:
    functions = (handle,)
    redis_settings = redis
    job_serializer = staticmethod(serialize)
    job_deserializer = staticmethod(json.loads)
    if os.environ.get("CAREFUL"):
        job_timeout = 60  # and 10 s later the job of a killed worker is tried again, not after 310


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, ArqRedis]]:
    pool = await create_pool(redis, job_serializer=serialize, job_deserializer=json.loads)
    yield {"pool": pool}
    await pool.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/stripe")
async def receive(request: Request, event: VerifiedEvent) -> dict[str, bool]:
    await request.state.pool.enqueue_job("handle", event, _job_id=event["id"])
    return {"received": True}
