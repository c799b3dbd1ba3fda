"""2xx means committed: the exact bytes are durable before the sender hears 2xx."""

from mutants.mutant import ENGINE, Mutant

ANSWERS, DATABASE, INBOX = (f"{ENGINE}{name}.py" for name in ("answers", "database", "inbox"))

MUTANTS = [
    Mutant(
        "acknowledged before the commit",
        "app/webhooks/route.py",
        "            added = await inbox.add(endpoint.name, delivery)\n",
        "            import asyncio\n"
        "            adding = asyncio.ensure_future(inbox.add(endpoint.name, delivery))\n"
        "            adding.add_done_callback(lambda task: task.exception())\n"
        "            added = Added.NEW\n",
        ANSWERS,
    ),
    Mutant(
        "acknowledged although it was not committed",
        "app/webhooks/route.py",
        "            raise TryAgain from None\n",
        '            return JSONResponse({"received": True})\n',
        ANSWERS,
    ),
    Mutant(
        "an acknowledgement does not wait for the disk",
        "app/inbox/writers.py",
        "{'FULL' if durable else 'NORMAL'}",
        "NORMAL",
        INBOX,
    ),
    Mutant(
        "an acknowledgement does not wait for the disk",
        "app/inbox/writers.py",
        "        if not durable:\n",
        "        if True:\n",
        INBOX,
        database="postgresql",
    ),
    Mutant(
        "an acknowledgement that shares its commit does not wait for the disk",
        "app/inbox/group_commit.py",
        "any(call.operation in self._durable for call in batch)",
        "all(call.operation in self._durable for call in batch)",
        INBOX,
    ),
    Mutant(
        "the database may be in memory",
        "app/database.py",
        "    if in_memory:\n",
        "    if False:\n",
        DATABASE,
    ),
    Mutant(
        "reserialised JSON is stored",
        "app/webhooks/stripe.py",
        "Delivery(event_id, event_type, payload, data)",
        "Delivery(event_id, event_type, json.dumps(data).encode(), data)",
        f"{ENGINE}stripe.py",
    ),
    Mutant(
        "reserialised JSON is stored",
        "app/webhooks/custom.py",
        "Delivery(event_id, event_type, payload, data)",
        "Delivery(event_id, event_type, json.dumps(data).encode(), data)",
        f"{ENGINE}custom.py",
        provider="custom",
    ),
    Mutant(
        "one event that cannot be stored fails all that are committed with it",
        "app/inbox/group_commit.py",
        "            if len(batch) > 1 and not _is_away(error):\n",
        "            if False:\n",
        INBOX,
    ),
    Mutant(
        "the sender waits as long as the database does",
        "app/inbox/inbox.py",
        "            async with asyncio.timeout(settings.ack_deadline_seconds):\n"
        "                added: Added",
        "            async with asyncio.timeout(None):\n                added: Added",
        ANSWERS,
    ),
    Mutant(
        "a connection that was closed while idle costs an event",
        "app/inbox/connections.py",
        "                if not error.connection_invalidated:\n                    raise\n",
        "                raise\n",
        INBOX,
        database="postgresql",
    ),
    Mutant(
        "a process that starts while another makes the database fails",
        "app/inbox/engines.py",
        "suppress(sqlite3.OperationalError)",
        "suppress()",
        DATABASE,
    ),
]
