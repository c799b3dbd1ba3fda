"""Exactly once for one's own database: a handler's writes and the event's being done are one."""

from mutants.mutant import ENGINE, Mutant

TRANSACTIONS = f"{ENGINE}transactions.py"

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
        "app/processing/attempt.py",
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
]
