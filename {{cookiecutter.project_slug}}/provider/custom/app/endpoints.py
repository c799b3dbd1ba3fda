"""Yours: the endpoints, and who handles the events that arrive at each.

A second sender has a secret, settings and a handler of its own:

    class PartnerSettings(CustomSettings):
        model_config = SettingsConfigDict(env_prefix="PARTNER_WEBHOOK_")

    Endpoint(
        "partner",
        verify=Custom(read_secrets("PARTNER_WEBHOOK_SECRET"), load(PartnerSettings)),
        handler=partner.handle,
    ),
"""

from app.handlers import custom
from app.settings import load, read_secrets
from app.webhooks.custom import Custom, CustomSettings
from app.webhooks.endpoint import Endpoint

endpoints = [
    Endpoint(
        "custom",
        verify=Custom(read_secrets("CUSTOM_WEBHOOK_SECRET"), load(CustomSettings)),
        handler=custom.handle,
    ),
]
