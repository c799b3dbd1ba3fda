"""The other snippet: Stripe's own library builds the event, nothing is stored."""

import os
from typing import Annotated

import stripe
from fastapi import FastAPI, Header, HTTPException, Request

SECRET = os.environ["STRIPE_WEBHOOK_SECRET"]

app = FastAPI()


@app.post("/webhooks/stripe")
async def receive(request: Request, stripe_signature: Annotated[str, Header()]) -> dict[str, bool]:
    payload = await request.body()
    try:
        stripe.Webhook.construct_event(payload, stripe_signature, SECRET)
    except (ValueError, stripe.SignatureVerificationError) as error:
        raise HTTPException(400) from error
    return {"received": True}
