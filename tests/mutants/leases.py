"""No stuck rows, no stuck service: leases expire, a late attempt is fenced off, no event blocks."""

from mutants.mutant import ENGINE, Mutant

ATTEMPTS, INBOX, POLICY, QUEUE, TRANSACTIONS = (
    f"{ENGINE}{name}.py" for name in ("attempts", "inbox", "policy", "queue", "transactions")
)

CLAIM = "        due_at = {now} + {lease} * (1 + {random} / 2),\n"

MUTANTS = [
    Mutant(
        "the lease never expires",
        "app/inbox/statements.py",
        CLAIM,
        CLAIM.replace("{lease}", "1000000000"),
        INBOX,
    ),
    Mutant(
        "there is no lease",
        "app/inbox/statements.py",
        CLAIM,
        CLAIM.replace("{lease}", "0"),
        INBOX,
    ),
    Mutant(
        "leases that begin together expire together",
        "app/inbox/statements.py",
        CLAIM,
        CLAIM.replace("{random} / 2", "0"),
        INBOX,
    ),
    Mutant(
        "the lease expires before the handler has to end",
        "app/inbox/inbox.py",
        "    return timeout + CANCEL_SECONDS + settings.ack_deadline_seconds\n",
        "    return timeout / 2\n",
        INBOX,
    ),
    Mutant(
        "the lease of an endpoint with a longer time-out expires before its handler has to end",
        "app/inbox/inbox.py",
        '        parameters[f"lease_{number}"] = lease_seconds(endpoint)\n',
        '        parameters[f"lease_{number}"] = lease_seconds()\n',
        POLICY,
    ),
    Mutant(
        "an endpoint without a free slot holds up the others",
        "app/inbox/statements.py",
        "    WHERE due_at <= {now} AND endpoint NOT IN :full\n    ORDER",
        "    WHERE due_at <= {now} AND :full IS NOT NULL\n    ORDER",
        POLICY,
    ),
    Mutant(
        "a slot is lost with the wait for a retry",
        "app/inbox/statements.py",
        "due_at = {now} + :delay, has_slot = FALSE, started_at = NULL, error = :error",
        "due_at = {now} + :delay, started_at = NULL, error = :error",
        POLICY,
    ),
    Mutant(
        "processes do not see each other's slots",
        "app/inbox/slots.py",
        "            free[row.endpoint] -= row.taken\n",
        "            pass\n",
        POLICY,
    ),
    Mutant(
        "a message that comes too late takes a slot that is somebody else's by now",
        "app/inbox/statements.py",
        "                AND (due_at > {now} OR NOT has_slot) {skip_locked}\n",
        "                {skip_locked}\n",
        POLICY,
    ),
    Mutant(
        "a late attempt can end a later one",
        "app/inbox/statements.py",
        """    UPDATE webhook_events SET state = 'done', due_at = NULL, finished_at = {now}
    WHERE id = (
        SELECT id FROM webhook_events
        WHERE id = :id AND attempts = :attempts AND due_at IS NOT NULL {skip_locked}
""",
        """    UPDATE webhook_events SET state = 'done', due_at = NULL, finished_at = {now}
    WHERE id = (
        SELECT id FROM webhook_events
        WHERE id = :id AND due_at IS NOT NULL {skip_locked}
""",
        INBOX,
    ),
    Mutant(
        "a late failure can delay a later attempt",
        "app/inbox/statements.py",
        """    SET due_at = {now} + :delay, has_slot = FALSE, started_at = NULL, error = :error
    WHERE id = (
        SELECT id FROM webhook_events
        WHERE id = :id AND attempts = :attempts AND due_at IS NOT NULL {skip_locked}
""",
        """    SET due_at = {now} + :delay, has_slot = FALSE, started_at = NULL, error = :error
    WHERE id = (
        SELECT id FROM webhook_events
        WHERE id = :id AND due_at IS NOT NULL {skip_locked}
""",
        INBOX,
    ),
    Mutant(
        "who has lost its lease is not told",
        "app/inbox/inbox.py",
        "        if not await self._commits.call(_end, call):\n",
        "        await self._commits.call(_end, call)\n        if False:\n",
        INBOX,
    ),
    Mutant(
        "attempts are not counted when they begin",
        "app/inbox/statements.py",
        "    SET attempts = attempts + 1,\n        failures = failures + 1,\n",
        "    SET failures = failures + 1,\n",
        INBOX,
    ),
    Mutant(
        "an attempt that ends is overtaken in the same commit",
        "app/inbox/inbox.py",
        "OPERATIONS = (_add, _end, _undispatch, _claim_reference, _claim_due, _dispatch_due)",
        "OPERATIONS = (_add, _undispatch, _claim_reference, _claim_due, _dispatch_due, _end)",
        INBOX,
    ),
    Mutant(
        "a message is good for any number of attempts",
        "app/inbox/statements.py",
        """            WHERE id = :id AND attempts = :attempts AND due_at IS NOT NULL
""",
        """            WHERE id = :id AND attempts >= :attempts AND due_at IS NOT NULL
""",
        INBOX,
    ),
    Mutant(
        "two processes claim the same event",
        "app/inbox/statements.py",
        '    "skip_locked": "FOR UPDATE SKIP LOCKED",\n',
        '    "skip_locked": "",\n',
        INBOX,
        database="postgresql",
    ),
    Mutant(
        "a row that somebody has locked delays all others",
        "app/inbox/writers.py",
        "LOCK_TIMEOUT_MS = 1000 ",
        "LOCK_TIMEOUT_MS = 0 ",
        INBOX,
        database="postgresql",
    ),
    Mutant(
        "a handler that takes too long goes on beside its next attempt",
        "app/processing/attempt.py",
        "        await _cancel(task)\n        if not task.done()",
        "        if not task.done()",
        ATTEMPTS,
    ),
    Mutant(
        "a handler that ignores its cancellation keeps its place",
        "app/processing/attempt.py",
        "    await asyncio.wait([task], timeout=CANCEL_SECONDS)\n",
        "    await asyncio.wait([task])\n",
        ATTEMPTS,
    ),
    Mutant(
        "a cancelled handler leaves its transaction open",
        "app/inbox/sqlite_driver.py",
        '        """Roll the transaction back."""\n        self._connection.rollback()\n',
        '        """Roll the transaction back."""\n',
        TRANSACTIONS,
    ),
    Mutant(
        "a handler's transaction on SQLite has no limit",
        "app/inbox/inbox.py",
        "    limit = asyncio.timeout(SQLITE_TRANSACTION_SECONDS)\n",
        "    limit = asyncio.timeout(None)\n",
        TRANSACTIONS,
    ),
]
