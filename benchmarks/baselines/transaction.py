"""The straightforward durable receiver: one transaction a request, nothing else."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import sqlalchemy as sa
from fastapi import FastAPI, Header, HTTPException, Request
from signature import is_right
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import create_async_engine

url = sa.make_url(os.environ["DATABASE_URL"])
is_sqlite = url.get_backend_name() == "sqlite"
engine = create_async_engine(
    url.set(drivername="sqlite+aiosqlite" if is_sqlite else "postgresql+psycopg")
)
insert = sqlite.insert if is_sqlite else postgresql.insert
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


if is_sqlite:

    @sa.event.listens_for(engine.sync_engine, "connect")
    def configure(connection: DBAPIConnection, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 5000")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()
