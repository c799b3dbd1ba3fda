"""Drains on SIGTERM, within a bound, and holds its concurrency to a limit."""

from mutants.mutant import ENGINE, Mutant

ATTEMPTS, DISPATCHER, INBOX, QUEUE = (
    f"{ENGINE}{name}.py" for name in ("attempts", "dispatcher", "inbox", "queue")
)

MUTANTS = [
    Mutant(
        "any number of events at a time",
        "app/processing/queue.py",
        "        free = settings.concurrency - len(self._running)\n",
        "        free = 10_000\n",
        QUEUE,
    ),
    Mutant(
        "a shutdown waits for no handler",
        "app/processing/queue.py",
        "timeout=settings.grace_period_seconds)",
        "timeout=0)",
        QUEUE,
    ),
    Mutant(
        "a shutdown waits for ever",
        "app/processing/queue.py",
        "timeout=settings.grace_period_seconds)",
        "timeout=None)",
        QUEUE,
    ),
    Mutant(
        "an attempt that a shutdown cuts short counts",
        "app/processing/attempt.py",
        "            if not transaction.committed:\n"
        "                await inbox.release(claim)\n"
        "            raise\n",
        "            raise\n",
        ATTEMPTS,
    ),
    Mutant(
        "an attempt that is given back counts",
        "app/inbox/statements.py",
        "SET due_at = {now} + :delay, failures = failures - 1",
        "SET due_at = {now} + :delay",
        INBOX,
    ),
    Mutant(
        "what is claimed as its worker ends is not given back",
        "app/processing/attempt.py",
        "            if claim is not None:\n                await inbox.release(claim)\n",
        "",
        ATTEMPTS,
    ),
    Mutant(
        "a dispatcher whose database is away does not hear that it is to stop",
        "app/processing/dispatcher.py",
        "            await _wait(stopping)\n",
        "            await asyncio.sleep(settings.poll_interval_seconds)\n",
        DISPATCHER,
    ),
    Mutant(
        "who gives up waiting is stored nevertheless",
        "app/inbox/group_commit.py",
        "waiting = [call for call in self._waiting if not call.result.done()]",
        "waiting = self._waiting",
        INBOX,
    ),
    Mutant(
        "a look for due events reads the whole table",
        "app/inbox/migrations/versions/0001_webhook_events.py",
        '    _create_index("webhook_events_due", where="due_at IS NOT NULL")\n',
        "",
        INBOX,
    ),
    Mutant(
        "a worker's shutdown waits for no handler",
        "app/processing/worker.py",
        "        job_completion_wait = math.ceil(settings.grace_period_seconds)\n",
        "        job_completion_wait = 0\n",
        QUEUE,
        processing="arq",
    ),
]
