"""Yours: the endpoints, and who handles the events that arrive at each.

A second sender has a model, samples and a handler of its own:

    class PartnerEvent(BaseModel):
        id: Text
        type: Text
        order: PartnerOrder

    class Partner(Unsigned):
        provider = "partner"  # its samples are in tests/fixtures/partner

    Endpoint("partner", verify=Partner(PartnerEvent), handler=partner.handle),
"""

from app.handlers import unsigned
from app.webhooks.endpoint import Endpoint
from app.webhooks.unsigned import Unsigned

endpoints = [
    Endpoint("unsigned", verify=Unsigned(), handler=unsigned.handle),
]
