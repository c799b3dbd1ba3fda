"""dj-stripe with a callback that does nothing: `python djstripe_site.py` makes its tables."""

import os
import sys
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.urls import include, path

UUID = "11111111-1111-4111-8111-111111111111"


def callback(trigger: object, api_key: str | None = None) -> None:
    """Handle nothing: dj-stripe keeps the trigger."""


def database(url: str) -> dict[str, object]:
    if url.startswith("sqlite:///"):
        options = {
            "timeout": 30,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        }
        name = url.removeprefix("sqlite:///")
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": options}
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username or "",
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname or "",
        "PORT": parts.port or 5432,
    }


settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": database(os.environ["DATABASE_URL"]) | {"CONN_MAX_AGE": None}},
    DJSTRIPE_FOREIGN_KEY_TO_FIELD="id",
    DJSTRIPE_WEBHOOK_EVENT_CALLBACK=callback,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "djstripe"],
    LOGGING_CONFIG=None,
    ROOT_URLCONF=__name__,
    SECRET_KEY="measured",  # noqa: S106
    STRIPE_LIVE_MODE=False,
    STRIPE_TEST_SECRET_KEY="sk_test_measured",  # noqa: S106
    USE_TZ=True,
)
django.setup()
urlpatterns = [path("stripe/", include("djstripe.urls", namespace="djstripe"))]

if __name__ == "__main__":
    call_command("migrate", verbosity=0, stdout=sys.stderr)
    from djstripe.models import WebhookEndpoint

    WebhookEndpoint.objects.create(
        id="we_measured",
        djstripe_uuid=UUID,
        enabled_events=["*"],
        livemode=False,
        secret=os.environ["STRIPE_WEBHOOK_SECRET"],
        status="enabled",
        url="https://localhost/",
    )
else:
    application = get_wsgi_application()
