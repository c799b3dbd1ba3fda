"""The straightforward durable receiver: one transaction a request, nothing else."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import sqlalchemy as sa
from effect import create_engine, insert
from fastapi import FastAPI, Header, HTTPException, Request
from signature import is_right

engine = create_engine()
events = sa.Table(
    "events",
    sa.MetaData(),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.func.now()),
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(events.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/stripe")
async def receive(request: Request, stripe_signature: Annotated[str, Header()]) -> dict[str, bool]:
    payload = await request.body()
    if not is_right(stripe_signature, payload):
        raise HTTPException(401, "invalid signature")
    event = json.loads(payload)
    row = {"id": event["id"], "type": event["type"], "payload": payload}
    async with engine.begin() as connection:
        await connection.execute(insert(events).values(row).on_conflict_do_nothing())
    return {"received": True}
