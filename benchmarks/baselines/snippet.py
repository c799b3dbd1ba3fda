"""The snippet people copy: it forgets everything when it restarts."""

import json
from typing import Annotated, Any

from effect import create_engine, mark_order_paid
from fastapi import BackgroundTasks, FastAPI, Header, HTTPException, Request
from signature import is_right

app = FastAPI()
engine = create_engine()
seen: set[str] = set()


async def handle(event: dict[str, Any]) -> None:
    async with engine.begin() as connection:
        await mark_order_paid(connection, event)


@app.post("/webhooks/stripe")
async def receive(
    request: Request, tasks: BackgroundTasks, stripe_signature: Annotated[str, Header()]
) -> dict[str, bool]:
    payload = await request.body()
    if not is_right(stripe_signature, payload):
        raise HTTPException(401, "invalid signature")
    event = json.loads(payload)
    if event["id"] not in seen:
        seen.add(event["id"])
        tasks.add_task(handle, event)
    return {"received": True}
