"""Yours: the endpoints, and who handles the events that arrive at each.

A second app has a secret and a handler of its own:

    Endpoint(
        "shopify-wholesale",
        verify=Shopify(read_secrets("SHOPIFY_WHOLESALE_WEBHOOK_SECRET", REMEDY)),
        handler=wholesale.handle,
    ),
"""

from app.handlers import shopify
from app.settings import read_secrets
from app.webhooks.endpoint import Endpoint
from app.webhooks.shopify import Shopify

REMEDY = "copy the client secret of your app from Shopify's Dev Dashboard"

endpoints = [
    Endpoint(
        "shopify",
        verify=Shopify(read_secrets("SHOPIFY_WEBHOOK_SECRET", REMEDY)),
        handler=shopify.handle,
    ),
]
