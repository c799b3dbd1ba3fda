"""hookrelay: its router stores the event, its worker handles it.

On SQLite the worker is a task of the web process, for its backend is "safe within a single
process". On PostgreSQL it is a process of its own: `python with_hookrelay.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import sqlalchemy as sa
from effect import CONNECTIONS, create_engine, is_sqlite, mark_order_paid, url
from fastapi import FastAPI
from hookrelay import WebhookEvent, Worker
from hookrelay.backends.postgres import PostgresBackend
from hookrelay.backends.sqlite import SQLiteBackend
from hookrelay.fastapi import create_webhook_router
from signature import is_right
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_engine()
if is_sqlite:
    backend = SQLiteBackend(create_engine())
else:
    queue_url = url.set(drivername="postgresql+asyncpg")
    backend = PostgresBackend(create_async_engine(queue_url, pool_size=CONNECTIONS))


async def handle(event: WebhookEvent) -> None:
    async with engine.begin() as connection:
        await mark_order_paid(connection, event.payload)


worker = Worker(backend, handle, concurrency=CONNECTIONS, batch_size=CONNECTIONS)


def verify(payload: bytes, headers: Mapping[str, str]) -> bool:
    return is_right(headers["stripe-signature"], payload)


async def init_schema() -> None:
    with suppress(sa.exc.IntegrityError):  # the other process has just made the table
        await backend.init_schema()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await init_schema()
    if is_sqlite:
        working = asyncio.create_task(worker.run_forever())
    yield
    if is_sqlite:
        working.cancel()


router = create_webhook_router(
    backend=backend,
    source="stripe",
    path="/webhooks/stripe",
    verify_signature=verify,
    idempotency_key=lambda event: event["id"],
)
app = FastAPI(lifespan=lifespan)
app.include_router(router)


async def main() -> None:
    await init_schema()
    print("the worker begins", flush=True)
    await worker.run_forever()


if __name__ == "__main__":
    asyncio.run(main())
