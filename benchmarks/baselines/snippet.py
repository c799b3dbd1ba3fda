"""The snippet people copy: it forgets everything when it restarts."""

import json
from typing import Annotated, Any

from fastapi import BackgroundTasks, FastAPI, Header, HTTPException, Request
from signature import is_right

app = FastAPI()
seen: set[str] = set()
handled = 0


async def handle(event: dict[str, Any]) -> None:
    global handled
    handled += 1


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


@app.get("/handled")
async def count() -> int:
    return handled
