"""Retries, then tells: backoff kept in the database, and in the end a dead event that is told."""

from mutants.mutant import ENGINE, Mutant

ATTEMPTS, CLI, HISTORY, RETRY, TRANSACTIONS = (
    f"{ENGINE}{name}.py" for name in ("attempts", "cli", "history", "retry", "transactions")
)

MUTANTS = [
    Mutant(
        "done although the handler failed",
        "app/processing/attempt.py",
        "                await _record_failure(inbox, claim, policy, error, name)\n",
        "                await inbox.complete(claim)\n",
        ATTEMPTS,
    ),
    Mutant(
        "retried for ever",
        "app/processing/attempt.py",
        "    is_last = isinstance(error, Permanent) or claim.failures >= policy.max_attempts\n",
        "    is_last = isinstance(error, Permanent)\n",
        ATTEMPTS,
    ),
    Mutant(
        "one failure is death",
        "app/processing/attempt.py",
        "    is_last = isinstance(error, Permanent) or claim.failures >= policy.max_attempts\n",
        "    is_last = True\n",
        ATTEMPTS,
    ),
    Mutant(
        "an event that kills its process is attempted for ever",
        "app/processing/attempt.py",
        "    if claim.follows_lost and claim.failures > policy.max_attempts:\n",
        "    if False:\n",
        ATTEMPTS,
    ),
    Mutant(
        "an event that its handler gives up is retried",
        "app/processing/attempt.py",
        "    is_last = isinstance(error, Permanent) or claim.failures >= policy.max_attempts\n",
        "    is_last = claim.failures >= policy.max_attempts\n",
        ATTEMPTS,
    ),
    Mutant(
        "the wait that a handler asks for has no cap",
        "app/processing/retry.py",
        "min(error.seconds, policy.retry_cap_seconds)",
        "error.seconds",
        ATTEMPTS,
    ),
    Mutant(
        "retried at once",
        "app/processing/attempt.py",
        "    delay = wait_after(error, claim.failures, policy)\n",
        "    delay = 0.0\n",
        ATTEMPTS,
    ),
    Mutant(
        "the wait does not double",
        "app/processing/retry.py",
        "policy.retry_base_seconds * 2**doublings",
        "policy.retry_base_seconds",
        RETRY,
    ),
    Mutant(
        "the wait has no cap",
        "app/processing/retry.py",
        "min(policy.retry_cap_seconds, policy.retry_base_seconds * 2**doublings)",
        "policy.retry_base_seconds * 2**doublings",
        RETRY,
    ),
    Mutant(
        "all wait equally long",
        "app/processing/retry.py",
        "random.uniform(longest / 2, longest)",
        "longest",
        RETRY,
    ),
    Mutant(
        "a replayed event backs off as if it had never been replayed",
        "app/processing/attempt.py",
        "    delay = wait_after(error, claim.failures, policy)\n",
        "    delay = wait_after(error, claim.attempts, policy)\n",
        ATTEMPTS,
    ),
    Mutant(
        "a replayed event has no attempts left",
        "app/inbox/history.py",
        "            failures=0,\n",
        "",
        CLI,
    ),
    Mutant(
        "nobody is told of an attempt whose process died",
        "app/inbox/inbox.py",
        "        if claim.follows_lost:\n",
        "        if False:\n",
        HISTORY,
    ),
    Mutant(
        "an attempt that waits for a retry counts as lost",
        "app/inbox/statements.py",
        "SET due_at = {now} + :delay, has_slot = FALSE, started_at = NULL, error = :error",
        "SET due_at = {now} + :delay, has_slot = FALSE, error = :error",
        HISTORY,
    ),
    Mutant(
        "a replay takes the successful attempt off the record",
        "app/inbox/history.py",
        "    connection.execute(keep)\n",
        "",
        HISTORY,
    ),
    Mutant(
        "a dead event is not an error in the log",
        "app/processing/attempt.py",
        '        logger.error("%s: %s, dead',
        '        logger.info("%s: %s, dead',
        ATTEMPTS,
    ),
    Mutant(
        "a failure keeps no traceback",
        "app/processing/attempt.py",
        "    return text.encode(",
        '    return "".encode(',
        ATTEMPTS,
    ),
    Mutant(
        "a database without connections left counts as the handler's failure",
        "app/inbox/inbox.py",
        "            except (OperationalError, InterfaceError, PoolTimeout, OSError) as error:\n",
        "            except ZeroDivisionError as error:\n",
        TRANSACTIONS,
        database="postgresql",
    ),
]
