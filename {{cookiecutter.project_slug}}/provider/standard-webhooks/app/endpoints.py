"""Yours: the endpoints, and who handles the events that arrive at each.

A second sender has a secret and a handler of its own:

    Endpoint(
        "partner",
        verify=StandardWebhooks(read_secrets("PARTNER_WEBHOOK_SECRET", REMEDY)),
        handler=partner.handle,
    ),
"""

from app.handlers import standard_webhooks
from app.settings import read_secrets
from app.webhooks.endpoint import Endpoint
from app.webhooks.standard_webhooks import StandardWebhooks

REMEDY = "ask the sender for the signing secret (whsec_...) or the public key (whpk_...)"

endpoints = [
    Endpoint(
        "standard-webhooks",
        verify=StandardWebhooks(read_secrets("STANDARD_WEBHOOKS_SECRET", REMEDY)),
        handler=standard_webhooks.handle,
    ),
]
