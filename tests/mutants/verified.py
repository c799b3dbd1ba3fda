"""Verified first: over the raw bytes, in constant time, before anything is parsed or stored."""

from mutants.mutant import ENGINE, Mutant

SIGNATURES = f"{ENGINE}signatures.py"
STRIPE = f"{ENGINE}stripe.py"
CUSTOM = f"{ENGINE}custom.py"
SHOPIFY = f"{ENGINE}shopify.py"

MUTANTS = [
    Mutant(
        "any signature will do",
        "app/webhooks/stripe.py",
        "            if is_signed(_signed_message(timestamp, payload), signatures, self._keys):\n",
        "            if signatures:\n",
        STRIPE,
    ),
    Mutant(
        "any signature will do",
        "app/webhooks/custom.py",
        "            if self._is_signed(payload, signatures):\n",
        "            if signatures:\n",
        CUSTOM,
        provider="custom",
    ),
    Mutant(
        "any signature with a timestamp will do",
        "app/webhooks/custom.py",
        "            if self._is_signed(_with_timestamp(timestamp, payload), signatures):\n",
        "            if signatures:\n",
        CUSTOM,
        provider="custom",
    ),
    Mutant(
        "the timestamp is not signed",
        "app/webhooks/custom.py",
        'return timestamp.encode() + b"." + payload',
        "return payload",
        CUSTOM,
        provider="custom",
    ),
    Mutant(
        "how long a comparison takes tells how much was right",
        "app/webhooks/signatures.py",
        "            if hmac.compare_digest(text.encode(), expected):\n",
        "            if text.encode() == expected:\n",
        SIGNATURES,
    ),
    Mutant(
        "reserialised JSON is verified",
        "app/webhooks/stripe.py",
        "        self._check_signature(request.headers, payload)\n",
        "        again = json.dumps(json.loads(payload)).encode()\n"
        "        self._check_signature(request.headers, again)\n",
        STRIPE,
    ),
    Mutant(
        "the body is parsed before it is verified",
        "app/webhooks/stripe.py",
        "        self._check_signature(request.headers, payload)\n",
        "        parse_json(payload)\n        self._check_signature(request.headers, payload)\n",
        STRIPE,
    ),
    Mutant(
        "the body is parsed before it is verified",
        "app/webhooks/custom.py",
        "        self._check_signature(request.headers, payload)\n",
        "        parse_json(payload)\n        self._check_signature(request.headers, payload)\n",
        CUSTOM,
        provider="custom",
    ),
    Mutant(
        "a signature is good for ever",
        "app/webhooks/stripe.py",
        "                check_timestamp(timestamp, self._tolerance)\n",
        "",
        STRIPE,
    ),
    Mutant(
        "a signature is good for ever",
        "app/webhooks/custom.py",
        "                check_timestamp(timestamp, self._settings.tolerance_seconds)\n",
        "",
        CUSTOM,
        provider="custom",
    ),
    Mutant(
        "a signature may be stale",
        "app/webhooks/signatures.py",
        "    if age > tolerance:\n",
        "    if False:\n",
        SIGNATURES,
    ),
    Mutant(
        "a signature may come from the future",
        "app/webhooks/signatures.py",
        "    if age < -tolerance:\n",
        "    if False:\n",
        SIGNATURES,
    ),
    Mutant(
        "only the first secret counts",
        "app/webhooks/signatures.py",
        "    for key in keys:\n",
        "    for key in list(keys)[:1]:\n",
        SIGNATURES,
    ),
    Mutant(
        "only the first signature counts",
        "app/webhooks/signatures.py",
        "        for signature in signatures:\n",
        "        for signature in list(signatures)[:1]:\n",
        SIGNATURES,
    ),
    Mutant(
        "only the first of two headers counts",
        "app/webhooks/signatures.py",
        "    for field in fields:\n",
        "    for field in fields[:1]:\n",
        SIGNATURES,
    ),
    Mutant(
        "whoever is not authentic decides how much is computed",
        "app/webhooks/signatures.py",
        "    if not values or len(values) > MAX_VALUES:\n",
        "    if not values:\n",
        SIGNATURES,
    ),
    Mutant(
        "events of the test mode count in production",
        "app/webhooks/stripe.py",
        '        if data.get("livemode") is False and not self._allow_test_events:\n',
        "        if False:\n",
        STRIPE,
    ),
    Mutant(
        "any signature will do",
        "app/webhooks/shopify.py",
        '        if not is_signed(payload, signatures, self._keys, encoding="base64"):\n',
        "        if not signatures:\n",
        SHOPIFY,
        provider="shopify",
    ),
    Mutant(
        "events of two topics with one id are one event",
        "app/webhooks/shopify.py",
        'return f"{event_id}:{topic}"',
        "return event_id",
        SHOPIFY,
        provider="shopify",
    ),
    Mutant(
        "a body that does not fit the model is an event",
        "app/webhooks/unsigned.py",
        "event: Any = self.model.model_validate(data)",
        "event: Any = self.model.model_construct(**data)",
        f"{ENGINE}unsigned.py",
        provider="unsigned",
    ),
]
