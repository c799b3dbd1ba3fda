"""Yours: the endpoints, and who handles the events that arrive at each.

A second webhook has a secret and a handler of its own:

    Endpoint(
        "github-app",
        verify=GitHub(read_secrets("GITHUB_APP_WEBHOOK_SECRET", REMEDY)),
        handler=github_app.handle,
    ),
"""

from app.handlers import github
from app.settings import read_secrets
from app.webhooks.endpoint import Endpoint
from app.webhooks.github import GitHub

REMEDY = "choose a long random text, and enter it as the secret on the webhook's page at GitHub"

endpoints = [
    Endpoint(
        "github",
        verify=GitHub(read_secrets("GITHUB_WEBHOOK_SECRET", REMEDY)),
        handler=github.handle,
    ),
]
