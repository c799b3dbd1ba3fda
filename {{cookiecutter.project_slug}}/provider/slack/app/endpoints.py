"""Yours: the endpoints, and who handles the events that arrive at each.

A second app has a secret and a handler of its own:

    Endpoint(
        "slack-support",
        verify=Slack(read_secrets("SLACK_SUPPORT_WEBHOOK_SECRET", REMEDY)),
        handler=support.handle,
    ),
"""

from app.handlers import slack
from app.settings import read_secrets
from app.webhooks.endpoint import Endpoint
from app.webhooks.slack import Slack

REMEDY = "copy the signing secret from Basic Information, on the app's page at api.slack.com/apps"

endpoints = [
    Endpoint(
        "slack",
        verify=Slack(read_secrets("SLACK_WEBHOOK_SECRET", REMEDY)),
        handler=slack.handle,
    ),
]
