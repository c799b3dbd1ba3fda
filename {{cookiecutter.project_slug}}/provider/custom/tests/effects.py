"""What the tests of the service know about your handlers: change it when you change those.

What each handler does is tested at the end of `test_custom.py`, and nowhere else.
"""

from app.services import billing

PROVIDER = "custom"
SUBSCRIPTION_SAMPLE = "subscription.activated"
ORDER_SAMPLE = "order.paid"
"""Two of the samples. Each of them makes one row in one of these tables."""
TABLES = (billing.subscriptions, billing.orders)
