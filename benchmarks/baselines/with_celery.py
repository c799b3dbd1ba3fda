"""Celery: the request enqueues a task, a worker handles it: `celery -A with_celery.celery worker`.

`CAREFUL=1` sets what its documentation offers against the loss of tasks.
"""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready
from effect import create_sync_engine, paid_order
from fastapi import FastAPI
from verified import VerifiedEvent

engine = create_sync_engine()
celery = Celery("webhooks", broker=os.environ["BROKER_URL"])
celery.conf.task_ignore_result = True
if os.environ.get("CAREFUL"):
    celery.conf.task_acks_late = True
    celery.conf.task_reject_on_worker_lost = True
    # When Redis delivers what a killed worker held again: by default, after an hour.
    celery.conf.broker_transport_options = {"visibility_timeout": 70}

app = FastAPI()


@worker_ready.connect
def tell(**_: Any) -> None:
    print("the worker begins", flush=True)


@celery.task(name="handle")
def handle(event: dict[str, Any]) -> None:
    with engine.begin() as connection:
        connection.execute(paid_order(event))


@app.post("/webhooks/stripe")
def receive(event: VerifiedEvent) -> dict[str, bool]:
    handle.apply_async((event,), task_id=event["id"])
    return {"received": True}
