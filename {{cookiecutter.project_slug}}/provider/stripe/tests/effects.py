"""What the tests of the service know about your handlers: change it when you change those.

What each handler does is tested at the end of `test_stripe.py`, and nowhere else.
"""

from app.services import billing

PROVIDER = "stripe"
SUBSCRIPTION_SAMPLE = "checkout.session.completed"
ORDER_SAMPLE = "payment_intent.succeeded"
"""Two of the samples. Each of them makes one row in one of these tables."""
TABLES = (billing.subscriptions, billing.orders)
