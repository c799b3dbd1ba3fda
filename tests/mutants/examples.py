"""The example of each provider: late, foreign and unpaid events change nothing."""

from mutants.mutant import Mutant

BILLING = "app/services/billing.py"


def handlers(provider: str) -> str:
    return f"tests/handlers/test_{provider.replace('-', '_')}.py"


MUTANTS = [
    Mutant(
        "an event about somebody else's account counts",
        "app/handlers/stripe.py",
        '    if event.data.get("account"):\n',
        "    if False:\n",
        handlers("stripe"),
    ),
    Mutant(
        "what is not paid for is activated",
        "app/handlers/stripe.py",
        '            is_paid = session["payment_status"] != "unpaid"',
        "            is_paid = True",
        handlers("stripe"),
    ),
    Mutant(
        "an older event undoes a newer one",
        "app/services/board.py",
        " & (board.c.since <= since)",
        "",
        handlers("github"),
        provider="github",
    ),
    Mutant(
        "the app answers its own messages",
        "app/handlers/slack.py",
        ' and not {"bot_id", "subtype"} & message.keys()',
        "",
        handlers("slack"),
        provider="slack",
    ),
    Mutant(
        "a ticket that was closed is open again",
        "app/services/tickets.py",
        'index_elements=["id"], set_=row))\n\n\nasync',
        'index_elements=["id"], set_=row | {"state": "open"}))\n\n\nasync',
        handlers("slack"),
        provider="slack",
    ),
]
# Whose example is about subscriptions.
WITH_SUBSCRIPTIONS = ("stripe", "standard-webhooks", "custom", "unsigned")
for provider in WITH_SUBSCRIPTIONS:
    MUTANTS += [
        Mutant(
            "an older event undoes a newer one",
            BILLING,
            "        may_change &= subscriptions.c.status_since <= happened_at\n",
            "        pass\n",
            handlers(provider),
            provider=provider,
        ),
        Mutant(
            "a cancelled subscription comes to life again",
            BILLING,
            '    may_change = subscriptions.c.status != "cancelled"\n',
            '    may_change = subscriptions.c.status != "no such status"\n',
            handlers(provider),
            provider=provider,
        ),
        Mutant(
            "a late cancellation is dropped",
            BILLING,
            '    if status != "cancelled":\n',
            "    if True:\n",
            handlers(provider),
            provider=provider,
        ),
        Mutant(
            "a period that was paid earlier takes a later one away",
            BILLING,
            "    later = sa.case((known > paid_until, known), else_=paid_until)\n",
            "    later = paid_until\n",
            handlers(provider),
            provider=provider,
        ),
    ]
