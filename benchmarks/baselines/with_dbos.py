"""DBOS: a workflow named after the event, with one step that has the effect.

`DBOS_EFFECT=transaction` makes the step a transaction of DBOS's data source instead, whose
checkpoint is committed together with the effect.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from dbos import DBOS, AsyncSQLAlchemyDatasource, DBOSConfig, SetWorkflowID
from effect import create_engine, mark_order_paid, paid_order, url
from fastapi import FastAPI
from verified import VerifiedEvent

engine = create_engine()
config: DBOSConfig = {
    "name": "webhooks",
    "system_database_url": url.render_as_string(hide_password=False),
    "log_level": "WARNING",
}
DBOS(config=config)


@DBOS.step()
async def take_step(event: dict[str, Any]) -> None:
    async with engine.begin() as connection:
        await mark_order_paid(connection, event)


async def take_transaction(event: dict[str, Any]) -> None:
    async def write() -> None:
        await source.sql_session().execute(paid_order(event))

    await source.run_tx_step_async({"name": "write"}, write)


take = take_transaction if os.environ.get("DBOS_EFFECT") == "transaction" else take_step


@DBOS.workflow()
async def handle(event: dict[str, Any]) -> None:
    await take(event)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    global source
    text = engine.url.render_as_string(hide_password=False)
    source = await AsyncSQLAlchemyDatasource.create(text, engine=engine)
    DBOS.launch()
    yield
    DBOS.destroy()
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/stripe")
async def receive(event: VerifiedEvent) -> dict[str, bool]:
    with SetWorkflowID(event["id"]):
        await DBOS.start_workflow_async(handle, event)
    return {"received": True}
