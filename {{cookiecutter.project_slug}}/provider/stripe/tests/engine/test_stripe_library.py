"""Stripe's own library agrees: what it signs is accepted, and it accepts what is signed here."""

import json

import pytest
import stripe

from app.settings import Secrets
from app.webhooks.stripe import HEADER, TOLERANCE_SECONDS, Stripe
from tests.engine.receiver import Receiver, body

SECRET = "whsec_made_up_for_the_tests"

verifier = Stripe(Secrets("STRIPE_WEBHOOK_SECRET", (SECRET,), ""))


def test_what_stripe_s_library_signs_is_accepted() -> None:
    payload = body()
    signed = stripe.WebhookSignature.generate_signature_header(payload.decode(), SECRET)

    assert Receiver(verifier).status(payload, (HEADER, signed)) == 200


def test_stripe_s_library_accepts_what_a_sample_is_signed_with() -> None:
    payload, headers = verifier.sample({"data": {}}, "evt_1", "invoice.paid")

    event = stripe.Webhook.construct_event(payload, headers[HEADER], SECRET, TOLERANCE_SECONDS)

    assert event.id == json.loads(payload)["id"]


def test_stripe_s_library_refuses_another_secret_as_well() -> None:
    payload, headers = verifier.sample({"data": {}}, "evt_1", "invoice.paid")

    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(payload, headers[HEADER], "whsec_another")
