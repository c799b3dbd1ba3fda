"""Yours: the endpoints, and who handles the events that arrive at each.

A second one, for Stripe Connect, has a secret and a handler of its own. Stripe sends it test events
even in live mode, so its handler looks at `event.data["livemode"]`:

    Endpoint(
        "stripe-connect",
        verify=Stripe(
            read_secrets("STRIPE_CONNECT_WEBHOOK_SECRET", REMEDY), allow_test_events=True
        ),
        handler=stripe_connect.handle,
    ),
"""

from app.handlers import stripe
from app.settings import read_secrets
from app.webhooks.endpoint import Endpoint
from app.webhooks.stripe import Stripe

REMEDY = "copy the endpoint's signing secret (whsec_...) from the Stripe dashboard"

endpoints = [
    Endpoint(
        "stripe",
        verify=Stripe(read_secrets("STRIPE_WEBHOOK_SECRET", REMEDY)),
        handler=stripe.handle,
    ),
]
