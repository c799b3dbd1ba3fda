"""The official library and Svix's agree: each accepts what the other signs."""

from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix.webhooks

from app.settings import Secrets
from app.webhooks.standard_webhooks import StandardWebhooks
from tests.engine.receiver import Receiver

SECRET = "whsec_dGhlLXNlY3JldC1vZi10aGUtdGVzdHMh"
BODY = '{"type": "user.created", "name": "Zoë"}'

verifier = StandardWebhooks(Secrets("STANDARD_WEBHOOKS_SECRET", (SECRET,), ""))
official = standardwebhooks.Webhook(SECRET)
of_svix = svix.webhooks.Webhook(SECRET)


@pytest.mark.parametrize("names", ["webhook", "svix"])
@pytest.mark.parametrize("library", [official, of_svix], ids=["official", "svix"])
def test_what_the_libraries_sign_is_accepted(
    library: standardwebhooks.Webhook | svix.webhooks.Webhook, names: str
) -> None:
    now = datetime.now(tz=UTC)
    headers = {
        f"{names}-id": "msg_1",
        f"{names}-timestamp": str(int(now.timestamp())),
        f"{names}-signature": library.sign("msg_1", now, BODY),
    }

    assert Receiver(verifier).status(BODY.encode(), *headers.items()) == 200


@pytest.mark.parametrize("library", [official, of_svix], ids=["official", "svix"])
def test_the_libraries_accept_what_a_sample_is_signed_with(
    library: standardwebhooks.Webhook | svix.webhooks.Webhook,
) -> None:
    payload, headers = verifier.sample({"name": "Zoë"}, "msg_1", "user.created")

    library.verify(payload, headers)

    with pytest.raises(standardwebhooks.WebhookVerificationError):
        library.verify(payload + b" ", headers)
