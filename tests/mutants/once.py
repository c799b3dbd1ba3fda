"""Once per event: one row, however often it is delivered, and each delivery answered at once."""

from mutants.mutant import ENGINE, Mutant

ANSWERS, INBOX, LOGS, TRANSACTIONS = (
    f"{ENGINE}{name}.py" for name in ("answers", "inbox", "logs", "transactions")
)

MUTANTS = [
    Mutant(
        "the unique constraint is forgotten",
        "app/inbox/migrations/versions/0001_webhook_events.py",
        '        sa.UniqueConstraint("event_id", "endpoint"),\n',
        "",
        INBOX,
    ),
    Mutant(
        "a duplicate from another process is an error",
        "app/inbox/statements.py",
        "        ON CONFLICT (event_id, endpoint) DO NOTHING\n",
        "",
        INBOX,
        database="postgresql",
    ),
    Mutant(
        "a duplicate waits for its first delivery's transaction",
        "app/inbox/statements.py",
        """        WHERE NOT EXISTS (
            SELECT 1 FROM webhook_events AS old
            WHERE old.event_id = new.event_id AND old.endpoint = new.endpoint
        )
""",
        "        WHERE TRUE\n",
        TRANSACTIONS,
        database="postgresql",
    ),
    Mutant(
        "the same id at two endpoints is one event",
        "app/inbox/statements.py",
        "            WHERE old.event_id = new.event_id AND old.endpoint = new.endpoint\n",
        "            WHERE old.event_id = new.event_id\n",
        INBOX,
    ),
    Mutant(
        "whatever conflicts passes for a duplicate",
        "app/inbox/statements.py",
        "        ON CONFLICT (event_id, endpoint) DO NOTHING\n",
        "        ON CONFLICT DO NOTHING\n",
        INBOX,
        database="postgresql",
    ),
    Mutant(
        "check, then insert",
        "app/inbox/inbox.py",
        "                added: Added = await self._commits.call(_add, (endpoint, delivery))\n",
        "                async with self._connections.transaction() as db:\n"
        "                    query = sa.text('SELECT 1 FROM webhook_events WHERE event_id = :id')\n"
        "                    found = (await db.execute(query, {'id': delivery.id})).first()\n"
        "                if found:\n"
        "                    return Added.DUPLICATE\n"
        "                await asyncio.sleep(0.02)\n"
        "                added = Added.NEW\n"
        "                row = {'endpoint': endpoint, 'event_id': delivery.id,\n"
        "                       'event_type': delivery.type, 'payload': delivery.payload}\n"
        "                async with self._connections.transaction() as db:\n"
        "                    from app.inbox.table import webhook_events\n"
        "                    await db.execute(webhook_events.insert().values(**row))\n",
        ANSWERS,
    ),
    Mutant(
        "of equal events at once, all are new",
        "app/inbox/inbox.py",
        "        if key in new and first[key] is delivery:\n",
        "        if key in new:\n",
        INBOX,
    ),
    Mutant(
        "a stricter isolation level fails concurrent duplicates",
        "app/inbox/engines.py",
        'ISOLATION_LEVEL = "READ COMMITTED"',
        'ISOLATION_LEVEL = "SERIALIZABLE"',
        INBOX,
        database="postgresql",
    ),
    Mutant(
        "a duplicate of another type passes in silence",
        "app/webhooks/route.py",
        "        if differs(added, endpoint):\n",
        "        if False:\n",
        LOGS,
    ),
    Mutant(
        "each delivery whose body may vary is a warning",
        "app/webhooks/route.py",
        '        return not getattr(endpoint.verify, "body_may_vary", False)\n',
        "        return True\n",
        LOGS,
    ),
]
