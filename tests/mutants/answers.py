"""The answers, exactly, and what may be in a log."""

from mutants.mutant import ENGINE, Mutant

ANSWERS, EVENTS, FASTAPI, LOGS, MAIN = (
    f"{ENGINE}{name}.py" for name in ("answers", "events", "fastapi", "logs", "main")
)

MUTANTS = [
    Mutant(
        "NaN is JSON",
        "app/events.py",
        "json.JSONDecoder(parse_constant=_refuse_constant)",
        "json.JSONDecoder()",
        EVENTS,
    ),
    Mutant(
        "an id may have any length",
        "app/events.py",
        "    if len(text) > MAX_TEXT_LENGTH:\n",
        "    if False:\n",
        EVENTS,
    ),
    Mutant(
        "an id may have characters that do not print",
        "app/events.py",
        "    if not text.isprintable():\n",
        "    if False:\n",
        EVENTS,
    ),
    Mutant(
        "a body may be of any size",
        "app/webhooks/body.py",
        "        if size > settings.max_body_bytes:\n",
        "        if False:\n",
        ANSWERS,
    ),
    Mutant(
        "a body that is declared too large is read",
        "app/webhooks/body.py",
        "    if declared.isdecimal() and int(declared[:20]) > settings.max_body_bytes:\n",
        "    if False:\n",
        ANSWERS,
    ),
    Mutant(
        "a body may take any time",
        "app/webhooks/body.py",
        "asyncio.timeout(settings.body_timeout_seconds)",
        "asyncio.timeout(None)",
        ANSWERS,
    ),
    Mutant(
        "a compressed body has a wrong signature",
        "app/webhooks/body.py",
        '    if encoding.strip().lower() != "identity":\n',
        "    if False:\n",
        ANSWERS,
    ),
    Mutant(
        "a trailing slash redirects",
        "app/webhooks/route.py",
        '    @router.post(f"/webhooks/{endpoint.name}/", include_in_schema=False)\n',
        '    @router.post(f"/webhooks/{endpoint.name}/-", include_in_schema=False)\n',
        ANSWERS,
    ),
    Mutant(
        "an impostor is told what is wrong",
        "app/webhooks/refusals.py",
        'super().__init__(status.HTTP_401_UNAUTHORIZED, "invalid signature", reason)',
        "super().__init__(status.HTTP_401_UNAUTHORIZED, reason, reason)",
        ANSWERS,
    ),
    Mutant(
        "the sender is not told when to try again",
        "app/webhooks/route.py",
        'super().__init__(503, "try again later", {"Retry-After": "10"})',
        'super().__init__(503, "try again later")',
        ANSWERS,
    ),
    Mutant(
        "a refusal is not logged",
        "app/webhooks/route.py",
        'logger.warning("%s: refused with %d: %s", self.name, refusal.status_code, why)',
        "pass",
        LOGS,
    ),
    Mutant(
        "body and headers of what is accepted are logged",
        "app/webhooks/route.py",
        "        return acknowledgement(endpoint)\n",
        '        logger.warning("%s %s", delivery.payload, delivery.data)\n'
        "        return acknowledgement(endpoint)\n",
        LOGS,
    ),
    Mutant(
        "headers of what is refused are logged",
        "app/webhooks/route.py",
        "                raise\n\n        return answer_or_refuse\n",
        '                logger.warning("%s", request.headers)\n'
        "                raise\n\n        return answer_or_refuse\n",
        LOGS,
    ),
    Mutant(
        "the traceback of a handler is logged",
        "app/processing/attempt.py",
        '        logger.warning("%s: %s, retry in %.1f s", name, kind, delay)\n',
        '        logger.warning("%s: %s, retry in %.1f s", name, kind, delay, exc_info=error)\n',
        LOGS,
    ),
    Mutant(
        "the example in the documentation is not signed",
        "app/samples.py",
        '{"in": "header", "name": name, "example": value, "schema": {"type": "string"}}',
        '{"in": "header", "name": name, "example": name, "schema": {"type": "string"}}',
        MAIN,
    ),
    Mutant(
        "an answer is missing in the documentation",
        "app/webhooks/route.py",
        '    415: {"description": "The body is compressed."},\n',
        "",
        FASTAPI,
    ),
]
for provider, line in {
    "stripe": "        self._check_signature(request.headers, payload)\n",
    "custom": "        self._check_signature(request.headers, payload)\n",
    "unsigned": "        digest = hashlib.sha256(payload).hexdigest()\n",
}.items():
    MUTANTS.append(
        Mutant(
            "what was sent is logged",
            f"app/webhooks/{provider}.py",
            line,
            f'{line}        __import__("logging").getLogger("app").warning("%s", payload)\n',
            f"{ENGINE}{provider}.py",
            provider=provider,
        )
    )
