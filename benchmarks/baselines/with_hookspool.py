"""hookspool's destination: its dispatcher posts each event here, and this has the effect.

`python with_hookspool.py PORT_OF_INTAKE PORT_OF_DESTINATION` writes its configuration.
"""

import os
import sys
from pathlib import Path

from effect import CONNECTIONS, create_engine, mark_order_paid
from fastapi import FastAPI, Request

CONFIGURATION = """
[intake]
listen = "127.0.0.1:{intake}"

[dispatch]
parallel = {parallel}
backoff_base_s = 1

[alerts]
dry = true

[sources.stripe]
module = "hookspool_stripe"
action = "orders"
secrets.secret = {{ env = "STRIPE_WEBHOOK_SECRET" }}

[destinations.orders]
type = "http"
url = "http://127.0.0.1:{destination}/effects"
allow_insecure = true
secret = {{ env = "STRIPE_WEBHOOK_SECRET" }}
unwrap = true
max_inflight = {parallel}
"""

app = FastAPI()
engine = create_engine()


@app.post("/effects")
async def receive(request: Request) -> dict[str, bool]:
    event = await request.json()
    async with engine.begin() as connection:
        await mark_order_paid(connection, event)
    return {"received": True}


if __name__ == "__main__":
    intake, destination = sys.argv[1:]
    text = CONFIGURATION.format(intake=intake, destination=destination, parallel=CONNECTIONS)
    Path(os.environ["HOOKSPOOL_HOME"], "config.toml").write_text(text)
