"""The effect of every set-up: a row in `orders`, as the template's example handler writes it.

The benchmark has made the table. Commits reach the disk: SQLite in WAL mode with
`synchronous=FULL`, PostgreSQL with `synchronous_commit=on`, its default.
"""

import os
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

CONNECTIONS = 16  # as many as the template has: its CONCURRENCY
LOCK_SECONDS = 30  # SQLite's writers wait for each other

url = sa.make_url(os.environ["DATABASE_URL"])
is_sqlite = url.get_backend_name() == "sqlite"
insert = sqlite.insert if is_sqlite else postgresql.insert

orders = sa.Table(
    "orders",
    sa.MetaData(),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
)


def create_engine() -> AsyncEngine:
    driver = "sqlite+aiosqlite" if is_sqlite else "postgresql+psycopg"
    engine = create_async_engine(url.set(drivername=driver), pool_size=CONNECTIONS)
    if is_sqlite:
        sa.event.listen(engine.sync_engine, "connect", make_durable)
    return engine


def create_sync_engine() -> sa.Engine:
    driver = "sqlite" if is_sqlite else "postgresql+psycopg"
    engine = sa.create_engine(url.set(drivername=driver))
    if is_sqlite:
        sa.event.listen(engine, "connect", make_durable)
    return engine


def make_durable(connection: DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {LOCK_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def paid_order(event: dict[str, Any]) -> sa.Insert:
    """Return the statement that marks the order of a payment as paid."""
    payment = event["data"]["object"]
    statement = insert(orders).values(
        id=payment["metadata"]["order_id"],
        amount=payment["amount_received"],
        currency=payment["currency"],
    )
    return statement.on_conflict_do_nothing()


async def mark_order_paid(connection: AsyncConnection, event: dict[str, Any]) -> None:
    await connection.execute(paid_order(event))
