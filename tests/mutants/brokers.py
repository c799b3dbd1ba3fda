"""Survives its broker: without it 2xx as ever, and all is dispatched when it is back."""

from mutants.mutant import ENGINE, Mutant

ATTEMPTS, DISPATCHER, INBOX, QUEUE, WORKER = (
    f"{ENGINE}{name}.py" for name in ("attempts", "dispatcher", "inbox", "queue", "worker")
)

MUTANTS = [
    Mutant(
        "what no worker takes is never dispatched again",
        "app/inbox/statements.py",
        "SET due_at = {now} + :requeue_after, queued = TRUE\n",
        "SET due_at = {now} + 1000000000, queued = TRUE\n",
        INBOX,
    ),
    Mutant(
        "what could not be published waits as if it had been",
        "app/inbox/inbox.py",
        "self._commits.call(_undispatch, reference) for reference in references",
        "self._commits.call(_undispatch, reference) for reference in references[:0]",
        INBOX,
    ),
    Mutant(
        "a late report makes an event due that was claimed",
        "app/inbox/statements.py",
        "        WHERE id = :id AND attempts = :attempts AND queued {skip_locked}\n",
        "        WHERE id = :id {skip_locked}\n",
        INBOX,
    ),
    Mutant(
        "a worker uses up its messages while the database is away",
        "app/processing/attempt.py",
        "            await asyncio.sleep(settings.poll_interval_seconds)\n",
        "            return\n",
        ATTEMPTS,
    ),
    Mutant(
        "a worker holds a message for ever",
        "app/processing/attempt.py",
        "    for _ in range(MAX_CLAIM_TRIES):\n",
        "    while True:\n",
        ATTEMPTS,
    ),
    Mutant(
        "a flood goes into the queue whole",
        "app/inbox/inbox.py",
        "    limit = min(call.limit, max(0, QUEUE_WINDOW - queued))\n",
        "    limit = call.limit\n",
        INBOX,
    ),
    Mutant(
        "what was claimed still takes room in the queue",
        "app/inbox/statements.py",
        """        due_at = {now} + {lease} * (1 + {random} / 2),
        queued = FALSE\"""
""",
        """        due_at = {now} + {lease} * (1 + {random} / 2)\"""
""",
        INBOX,
    ),
    Mutant(
        "taken for the queue, and never put there",
        "app/processing/queue.py",
        "            await asyncio.to_thread(self._publish, references)\n",
        "",
        QUEUE,
        processing="celery",
    ),
    Mutant(
        "taken for the queue, and never put there",
        "app/processing/queue.py",
        "await redis.enqueue_job(ATTEMPT, *reference, _defer_by=-CLOCK_SECONDS)",
        "pass",
        QUEUE,
        processing="arq",
    ),
    Mutant(
        "the queue is shared with every other application of Celery",
        "app/processing/broker.py",
        "        task_default_queue=name,\n",
        "",
        QUEUE,
        processing="celery",
    ),
    Mutant(
        "the queue is shared with every other application of arq",
        "app/processing/broker.py",
        "        default_queue_name=settings.queue_name,\n",
        "",
        QUEUE,
        processing="arq",
    ),
    Mutant(
        "a worker opens pickles",
        "app/processing/broker.py",
        'accept_content=["json"],',
        'accept_content=["json", "pickle"],',
        QUEUE,
        processing="celery",
    ),
    Mutant(
        "a worker opens pickles",
        "app/processing/worker.py",
        "        job_deserializer = staticmethod(json.loads)\n",
        "",
        QUEUE,
        processing="arq",
    ),
    Mutant(
        "messages are pickles",
        "app/processing/broker.py",
        "        job_serializer=to_json,\n        job_deserializer=json.loads,\n",
        "",
        QUEUE,
        processing="arq",
    ),
    Mutant(
        "what Redis refuses waits as if it had been put into the queue",
        "app/processing/queue.py",
        "            await self._inbox.undispatch(references)\n",
        "",
        QUEUE,
        processing="arq",
    ),
    Mutant(
        "a connection that is lost while a message is taken ends the worker",
        "app/processing/broker.py",
        "            with suppress(WatchError):\n",
        "            if True:\n",
        QUEUE,
        processing="arq",
    ),
]
