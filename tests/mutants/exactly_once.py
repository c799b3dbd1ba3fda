"""Exactly once for one's own database: a handler's writes and the event's being done are one."""

from mutants.mutant import ENGINE, Mutant

FOLLOW_UPS, TRANSACTIONS = (f"{ENGINE}{name}.py" for name in ("follow_ups", "transactions"))

MUTANTS = [
    Mutant(
        "a transaction needs no lease",
        "app/inbox/inbox.py",
        "            if not rows:\n                raise LeaseLost\n",
        "",
        TRANSACTIONS,
    ),
    Mutant(
        "a late attempt can commit",
        "app/inbox/statements.py",
        "        WHERE id = {int(event)} AND attempts = {int(attempts)} AND due_at IS NOT NULL\n",
        "        WHERE id = {int(event)} AND attempts >= {int(attempts)} AND due_at IS NOT NULL\n",
        TRANSACTIONS,
    ),
    Mutant(
        "an event has any number of transactions",
        "app/processing/transaction.py",
        "        if self._opened:\n",
        "        if False:\n",
        TRANSACTIONS,
    ),
    Mutant(
        "marked done in a transaction of its own",
        "app/inbox/sqlite_driver.py",
        "        cursor = self._connection.execute(opening)\n",
        "        cursor = self._connection.execute(opening)\n        self._connection.commit()\n",
        TRANSACTIONS,
    ),
    Mutant(
        "done although its transaction was rolled back",
        "app/inbox/inbox.py",
        "            await _check_open(connection)\n",
        "",
        TRANSACTIONS,
    ),
    Mutant(
        "done although PostgreSQL rolled its transaction back",
        "app/inbox/inbox.py",
        "        if driver.info.transaction_status == TransactionStatus.INERROR:\n",
        "        if False:\n",
        TRANSACTIONS,
        database="postgresql",
    ),
    Mutant(
        "what follows from an event follows again when that is replayed",
        "app/processing/transaction.py",
        '        parts = [quote(self._claim.endpoint), quote(self._claim.event_id, safe="")]\n',
        '        parts = [str(self._claim.attempts), quote(self._claim.event_id, safe="")]\n',
        FOLLOW_UPS,
    ),
    Mutant(
        "what follows from different events may have one id",
        "app/processing/transaction.py",
        'quote(self._claim.event_id, safe="")',
        "self._claim.event_id",
        FOLLOW_UPS,
    ),
    Mutant(
        "anybody can send to an endpoint without a verifier",
        "app/webhooks/route.py",
        "        if endpoint.verify is not nobody:\n",
        "        if endpoint:\n",
        FOLLOW_UPS,
    ),
    Mutant(
        "nobody is told of what follows from an event",
        "app/processing/transaction.py",
        "        if self._follow_ups:\n",
        "        if False:\n",
        FOLLOW_UPS,
    ),
]
