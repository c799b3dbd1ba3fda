"""Yours: the endpoints, and who handles the events that arrive at each.

A second webhook has a secret and a handler of its own:

    Endpoint(
        "linear-support",
        verify=Linear(read_secrets("LINEAR_SUPPORT_WEBHOOK_SECRET", REMEDY)),
        handler=support.handle,
    ),
"""

from app.handlers import linear
from app.settings import read_secrets
from app.webhooks.endpoint import Endpoint
from app.webhooks.linear import Linear

REMEDY = "copy the signing secret (lin_wh_...) from the webhook's page in Linear"

endpoints = [
    Endpoint(
        "linear",
        verify=Linear(read_secrets("LINEAR_WEBHOOK_SECRET", REMEDY)),
        handler=linear.handle,
    ),
]
