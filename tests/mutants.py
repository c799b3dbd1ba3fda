"""Single defects, each of which breaks a promise and must turn a generated project's tests red.

A mutant is an edit of one place. Write one for every promise whose test could have been forgotten.
"""

from dataclasses import dataclass

from project import Variant

STRIPE = Variant("stripe", "background")
CUSTOM = Variant("custom", "background")
CELERY = Variant("stripe", "celery")
ARQ = Variant("stripe", "arq")

# What has to notice, besides others perhaps: a mutant should cost no more than it must.
VERIFIER = "tests/test_{module}.py"
INBOX = "tests/test_inbox.py tests/test_processing.py"
ANSWERS = "tests/test_http.py tests/test_{module}.py"
RELAY = "tests/test_relay.py"
FLOOD = "tests/test_service.py -k flood or due_again"
SHUTDOWN = "tests/test_service.py -k shutdown"
CONFIG = "tests/test_config.py"
START_UP = "tests/test_service.py -k real_secret"
WITH_WORKERS = "tests/test_service.py -k sample"


@dataclass(frozen=True)
class Mutant:
    """A defect: in `file`, the one occurrence of `old` becomes `new`."""

    name: str
    promise: str
    file: str
    old: str
    new: str
    variant: Variant = STRIPE
    tests: str = INBOX

    def __str__(self) -> str:
        return f"{self.variant}: {self.name}"


VERIFICATION = "verified first"
CLOSED = "fails closed"
COMMITTED = "2xx means committed"
ONCE = "once per event"
CRASH = "survives a crash"
RETRIES = "retries, then tells"
LEASES = "no stuck rows"
EXACTLY_ONCE = "exactly once for your own database"
BROKER = "survives its broker"
DRAINS = "drains, and holds its concurrency to a limit"
HTTP = "the answers, exactly"

PROVIDERS = [
    Mutant(
        "any signature will do",
        VERIFICATION,
        "app/providers/stripe.py",
        "    if not any(_signed(payload, header, secret) for secret in secrets):\n",
        "    if False:\n",
        tests=VERIFIER,
    ),
    Mutant(
        "reserialised JSON is verified",
        VERIFICATION,
        "app/providers/stripe.py",
        "    payload = await request.body()\n",
        "    payload = json.dumps(json.loads(await request.body())).encode()\n",
        tests=VERIFIER,
    ),
    Mutant(
        "reserialised JSON is stored",
        COMMITTED,
        "app/providers/stripe.py",
        'Event("stripe", id, type, payload, data)',
        'Event("stripe", id, type, json.dumps(data).encode(), data)',
        tests=VERIFIER,
    ),
    Mutant(
        "the body is parsed before it is verified",
        VERIFICATION,
        "app/providers/stripe.py",
        "    header = request.headers.get(HEADER)\n",
        "    header = request.headers.get(HEADER)\n    parse_json(payload)\n",
        tests=VERIFIER,
    ),
    Mutant(
        "a signature is good for ever",
        VERIFICATION,
        "app/providers/stripe.py",
        "    if abs(age) > TOLERANCE:\n",
        "    if False:\n",
        tests=VERIFIER,
    ),
    Mutant(
        "a signature may come from the future",
        VERIFICATION,
        "app/providers/stripe.py",
        "    if abs(age) > TOLERANCE:\n",
        "    if age > TOLERANCE:\n",
        tests=VERIFIER,
    ),
    Mutant(
        "a signature may be stale",
        VERIFICATION,
        "app/providers/stripe.py",
        "    if abs(age) > TOLERANCE:\n",
        "    if -age > TOLERANCE:\n",
        tests=VERIFIER,
    ),
    Mutant(
        "only the first secret counts",
        VERIFICATION,
        "app/providers/stripe.py",
        "for secret in secrets)",
        "for secret in secrets[:1])",
        tests=VERIFIER,
    ),
    Mutant(
        "a header that is not ASCII is a server error",
        CLOSED,
        "app/providers/stripe.py",
        "    except (SignatureVerificationError, TypeError, ValueError):\n",
        "    except (SignatureVerificationError, ValueError):\n",
        tests=VERIFIER,
    ),
    Mutant(
        "a body that is not UTF-8 is a server error",
        CLOSED,
        "app/providers/stripe.py",
        "    except (SignatureVerificationError, TypeError, ValueError):\n",
        "    except (SignatureVerificationError, TypeError):\n",
        tests=VERIFIER,
    ),
    Mutant(
        "a body that is no object is a server error",
        CLOSED,
        "app/providers/stripe.py",
        "    if not isinstance(data, dict):\n",
        "    if False:\n",
        tests=VERIFIER,
    ),
    Mutant(
        "any signature will do",
        VERIFICATION,
        "app/providers/custom.py",
        "    if not any(hmac.compare_digest(given, sign(payload, s, timestamp).encode())"
        " for s in secrets):\n",
        "    if False:\n",
        CUSTOM,
        VERIFIER,
    ),
    Mutant(
        "reserialised JSON is verified",
        VERIFICATION,
        "app/providers/custom.py",
        "    payload = await request.body()\n",
        "    payload = json.dumps(json.loads(await request.body())).encode()\n",
        CUSTOM,
        VERIFIER,
    ),
    Mutant(
        "reserialised JSON is stored",
        COMMITTED,
        "app/providers/custom.py",
        'name(type, "type"), payload, data)',
        'name(type, "type"), json.dumps(data).encode(), data)',
        CUSTOM,
        VERIFIER,
    ),
    Mutant(
        "the body is parsed before it is verified",
        VERIFICATION,
        "app/providers/custom.py",
        "    signature = request.headers.get(settings.custom_webhook_header)\n",
        "    signature = request.headers.get(settings.custom_webhook_header)\n"
        "    parse_json(payload)\n",
        CUSTOM,
        VERIFIER,
    ),
    Mutant(
        "the time is not signed",
        VERIFICATION,
        "app/providers/custom.py",
        "sign(payload, s, timestamp).encode()",
        "sign(payload, s, None).encode()",
        CUSTOM,
        VERIFIER,
    ),
    Mutant(
        "a signature is good for ever",
        VERIFICATION,
        "app/providers/custom.py",
        "    if abs(age) > settings.custom_webhook_tolerance_seconds:\n",
        "    if False:\n",
        CUSTOM,
        VERIFIER,
    ),
    Mutant(
        "a signature may come from the future",
        VERIFICATION,
        "app/providers/custom.py",
        "    if abs(age) > settings.custom_webhook_tolerance_seconds:\n",
        "    if age > settings.custom_webhook_tolerance_seconds:\n",
        CUSTOM,
        VERIFIER,
    ),
    Mutant(
        "only the first secret counts",
        VERIFICATION,
        "app/providers/custom.py",
        "for s in secrets)",
        "for s in secrets[:1])",
        CUSTOM,
        VERIFIER,
    ),
    Mutant(
        "a header that is not ASCII is a server error",
        CLOSED,
        "app/providers/custom.py",
        'given = signature.encode("latin-1")',
        'given = signature.encode("ascii")',
        CUSTOM,
        VERIFIER,
    ),
    Mutant(
        "a malformed time is a server error",
        CLOSED,
        "app/providers/custom.py",
        "if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):\n",
        "if not timestamp:\n",
        CUSTOM,
        VERIFIER,
    ),
]

SERVICE = [
    Mutant(
        "the unique constraint is forgotten",
        ONCE,
        "app/models.py",
        '    sa.UniqueConstraint("provider", "event_id"),\n',
        "",
    ),
    Mutant(
        "a duplicate is an error",
        ONCE,
        "app/inbox.py",
        "    statement = insert(inbox).on_conflict_do_nothing()\n",
        "    statement = insert(inbox)\n",
    ),
    Mutant(
        "check, then insert",
        ONCE,
        "app/inbox.py",
        "        new = await self._commits.submit(_add, event)\n",
        "        seen = sa.select(inbox.c.id).where(inbox.c.event_id == event.id)\n"
        "        async with self.engine.connect() as connection:\n"
        "            if await connection.scalar(seen):\n"
        "                return False\n"
        "        row = {'provider': event.provider, 'event_id': event.id, 'type': event.type}\n"
        "        async with self.engine.begin() as connection:\n"
        "            await connection.execute(insert(inbox), row | {'payload': event.payload})\n"
        "        new = True\n",
    ),
    Mutant(
        "acknowledged before the commit",
        COMMITTED,
        "app/webhooks.py",
        "                new = await request.app.state.inbox.add(event)\n",
        "                adding = asyncio.create_task(request.app.state.inbox.add(event))\n"
        "                adding.add_done_callback(lambda task: task.exception())\n"
        "                new = True\n",
        tests=ANSWERS,
    ),
    Mutant(
        "acknowledged although it was not committed",
        COMMITTED,
        "app/webhooks.py",
        'return JSONResponse({"detail": "try again later"}, 503, {"Retry-After": "10"})',
        "return Response(b'{}')",
        tests=ANSWERS,
    ),
    Mutant(
        "a commit need not reach the disk",
        COMMITTED,
        "app/database.py",
        '"PRAGMA synchronous = FULL"',
        '"PRAGMA synchronous = NORMAL"',
    ),
    Mutant(
        "the sender waits as long as the database does",
        COMMITTED,
        "app/webhooks.py",
        "            async with asyncio.timeout(settings.ack_deadline_seconds):\n",
        "            async with asyncio.timeout(None):\n",
        tests=ANSWERS,
    ),
    Mutant(
        "one bad row fails all that are committed with it",
        COMMITTED,
        "app/commits.py",
        "            if len(calls) > 1 and not isinstance(error, OperationalError):\n",
        "            if False:\n",
    ),
    Mutant(
        "who gives up waiting is kept in memory",
        COMMITTED,
        "app/commits.py",
        "            self._gathering.pop(future, None)",
        "            pass",
    ),
    Mutant(
        "done before it is handled",
        CRASH,
        "app/processing.py",
        "            await handlers.load()[claim.provider](event)\n"
        '        if not committed and not await inbox.finish(claim.key, "done"):\n'
        "            raise LeaseLost\n",
        '            await inbox.finish(claim.key, "done")\n'
        "            await handlers.load()[claim.provider](event)\n",
    ),
    Mutant(
        "done although the handler failed",
        RETRIES,
        "app/processing.py",
        "            await _failed(inbox, claim, error)\n",
        '            await inbox.finish(claim.key, "done")\n',
    ),
    Mutant(
        "the lease never runs out",
        LEASES,
        "app/inbox.py",
        "due_at=now + LEASE_SECONDS)",
        "due_at=now + 10**9)",
    ),
    Mutant(
        "there is no lease",
        LEASES,
        "app/inbox.py",
        "due_at=now + LEASE_SECONDS)",
        "due_at=now)",
    ),
    Mutant(
        "the lease runs out before the handler must end",
        LEASES,
        "app/inbox.py",
        "LEASE_SECONDS = settings.handler_timeout_seconds + settings.ack_deadline_seconds\n",
        "LEASE_SECONDS = settings.handler_timeout_seconds / 2\n",
    ),
    Mutant(
        "an old attempt can finish the event",
        LEASES,
        "app/inbox.py",
        "    return {Key(*row) for row in connection.execute(rows)} & set(keys)\n",
        "    ids = {row.id for row in connection.execute(rows)}\n"
        "    return {key for key in keys if key.id in ids}\n",
    ),
    Mutant(
        "an old attempt can commit its transaction",
        EXACTLY_ONCE,
        "app/inbox.py",
        'inbox.c.attempts == sa.bindparam("made")',
        'inbox.c.attempts >= sa.bindparam("made")',
    ),
    Mutant(
        "a finished event can be finished again",
        LEASES,
        "app/inbox.py",
        "sa.select(inbox.c.id, inbox.c.attempts).where(is_pending)",
        "sa.select(inbox.c.id, inbox.c.attempts)",
    ),
    Mutant(
        "an event has any number of transactions",
        EXACTLY_ONCE,
        "app/inbox.py",
        'inbox.c.attempts == sa.bindparam("made"), is_pending\n',
        'inbox.c.attempts == sa.bindparam("made")\n',
    ),
    Mutant(
        "a handler may hang for longer than it is allowed to",
        LEASES,
        "app/processing.py",
        "asyncio.timeout(settings.handler_timeout_seconds)",
        "asyncio.timeout(settings.handler_timeout_seconds * 3)",
    ),
    Mutant(
        "attempts are not counted when they begin",
        RETRIES,
        "app/inbox.py",
        "values(attempts=inbox.c.attempts + 1, ",
        "values(attempts=inbox.c.attempts, ",
    ),
    Mutant(
        "an event that kills its worker is attempted for ever",
        RETRIES,
        "app/processing.py",
        "        if claim.attempts > claim.attempt_limit:\n",
        "        if False:\n",
    ),
    Mutant(
        "one failure is death",
        RETRIES,
        "app/processing.py",
        "    dead = claim.attempts >= claim.attempt_limit\n",
        "    dead = True\n",
    ),
    Mutant(
        "retried for ever",
        RETRIES,
        "app/processing.py",
        "    dead = claim.attempts >= claim.attempt_limit\n",
        "    dead = False\n",
    ),
    Mutant(
        "retried at once",
        RETRIES,
        "app/processing.py",
        "    delay = None if dead else backoff(claim.attempts)\n",
        "    delay = None if dead else 0.0\n",
    ),
    Mutant(
        "the wait does not double",
        RETRIES,
        "app/processing.py",
        "settings.retry_base_seconds * 2 ** min(attempt - 1, 60)",
        "settings.retry_base_seconds",
    ),
    Mutant(
        "the wait is not bounded",
        RETRIES,
        "app/processing.py",
        "most = min(settings.retry_cap_seconds, settings.retry_base_seconds"
        " * 2 ** min(attempt - 1, 60))",
        "most = settings.retry_base_seconds * 2 ** min(attempt - 1, 60)",
    ),
    Mutant(
        "the wait is not spread",
        RETRIES,
        "app/processing.py",
        "random.uniform(most / 2, most)",
        "most",
    ),
    Mutant(
        "a dead event is not logged as an error",
        RETRIES,
        "app/processing.py",
        "logging.ERROR if dead else",
        "logging.INFO if dead else",
    ),
    Mutant(
        "a dead event keeps no error",
        RETRIES,
        "app/processing.py",
        "delay=delay, error=text)",
        "delay=delay)",
    ),
    Mutant(
        "a replayed event has no attempts left",
        RETRIES,
        "app/__main__.py",
        "attempt_limit=limit, finished_at=None",
        "finished_at=None",
    ),
    Mutant(
        "an attempt ended by a shutdown counts",
        DRAINS,
        "app/processing.py",
        "delay=0, refund=1)",
        "delay=0)",
    ),
    Mutant(
        "a handler that exits ends the service",
        CRASH,
        "app/processing.py",
        "    except (Exception, SystemExit) as error:\n",
        "    except Exception as error:\n",
    ),
    Mutant(
        "nothing sweeps",
        CRASH,
        "app/relay.py",
        "asyncio.wait_for(inbox.arrived.wait(), settings.sweep_seconds)",
        "asyncio.wait_for(inbox.arrived.wait(), None)",
        tests=RELAY,
    ),
    Mutant(
        "the first error ends the relay",
        CRASH,
        "app/relay.py",
        "        except Exception as error:\n",
        "        except ZeroDivisionError as error:\n",
        tests=RELAY,
    ),
    Mutant(
        "marked done in a transaction of its own",
        EXACTLY_ONCE,
        "app/inbox.py",
        '            if (await connection.execute(_end, _end_of(key, "done"))).rowcount != 1:\n'
        "                raise LeaseLost\n"
        "            yield connection\n",
        "            yield connection\n"
        '        if not await self.finish(key, "done"):\n'
        "            raise LeaseLost\n",
    ),
    Mutant(
        "a transaction needs no lease",
        EXACTLY_ONCE,
        "app/inbox.py",
        '            if (await connection.execute(_end, _end_of(key, "done"))).rowcount != 1:\n'
        "                raise LeaseLost\n",
        '            await connection.execute(_end, _end_of(key, "done"))\n',
    ),
    Mutant(
        "the longest due come last",
        CRASH,
        "app/inbox.py",
        ".order_by(inbox.c.due_at)",
        ".order_by(inbox.c.due_at.desc())",
    ),
    Mutant(
        "an unset secret is accepted",
        CLOSED,
        "app/config.py",
        'problem = "" if secrets else "is not set"',
        'problem = ""',
        tests=CONFIG,
    ),
    Mutant(
        "a placeholder is accepted",
        CLOSED,
        "app/config.py",
        "    if any(PLACEHOLDER.search(secret) for secret in secrets):\n",
        "    if False:\n",
        tests=CONFIG,
    ),
    Mutant(
        "development is the default",
        CLOSED,
        "app/config.py",
        '["development", "production"] = "production"',
        '["development", "production"] = "development"',
        tests=START_UP,
    ),
    Mutant(
        "nested too deeply is a server error",
        CLOSED,
        "app/events.py",
        "    except (ValueError, RecursionError) as error:\n",
        "    except ValueError as error:\n",
        tests=ANSWERS,
    ),
    Mutant(
        "NaN is JSON",
        HTTP,
        "app/events.py",
        "json.loads(payload, parse_constant=_refuse)",
        "json.loads(payload)",
        tests=ANSWERS,
    ),
    Mutant(
        "an id may be anything",
        HTTP,
        "app/events.py",
        "    if not isinstance(text, str) or not 0 < len(text) <= NAME_LENGTH"
        " or not text.isprintable():\n",
        "    if not isinstance(text, str):\n",
        tests=ANSWERS,
    ),
    Mutant(
        "a body may be of any size",
        HTTP,
        "app/main.py",
        "    max_body_size=settings.max_body_bytes,\n",
        "",
        tests=ANSWERS,
    ),
    Mutant(
        "a trailing slash redirects",
        HTTP,
        "app/main.py",
        "redirect_slashes=False",
        "redirect_slashes=True",
        tests=ANSWERS,
    ),
    Mutant(
        "an impostor is told what is wrong",
        HTTP,
        "app/webhooks.py",
        'JSONResponse({"detail": detail}, status, {',
        'JSONResponse({"detail": reason}, status, {',
        tests=ANSWERS,
    ),
    Mutant(
        "the sender is not told when to try again",
        HTTP,
        "app/webhooks.py",
        '{"detail": "try again later"}, 503, {"Retry-After": "10"})',
        '{"detail": "try again later"}, 503)',
        tests=ANSWERS,
    ),
]

QUEUES = [
    Mutant(
        "any number of events at a time",
        DRAINS,
        "app/queue.py",
        "    room = settings.concurrency - len(_running)\n",
        "    room = 10_000\n",
        tests=FLOOD,
    ),
    Mutant(
        "a shutdown waits for nothing",
        DRAINS,
        "app/queue.py",
        "timeout=settings.drain_seconds)",
        "timeout=0)",
        tests=SHUTDOWN,
    ),
    Mutant(
        "a shutdown waits for ever",
        DRAINS,
        "app/queue.py",
        "timeout=settings.drain_seconds)",
        "timeout=16)",
        tests=SHUTDOWN,
    ),
    Mutant(
        "taken for the queue, and never put there",
        BROKER,
        "app/queue.py",
        "        await asyncio.to_thread(_publish, keys)\n",
        "        pass\n",
        CELERY,
        WITH_WORKERS,
    ),
    Mutant(
        "taken for the queue, and never put there",
        BROKER,
        "app/queue.py",
        "            for key in keys:\n",
        "            for key in keys[:0]:\n",
        ARQ,
        WITH_WORKERS,
    ),
    Mutant(
        "what could not be put into the queue waits as if it had been",
        BROKER,
        "app/inbox.py",
        '*(self.finish(key, "pending", delay=0) for key in keys)',
        "",
    ),
    Mutant(
        "what no worker took is never handed over again",
        BROKER,
        "app/inbox.py",
        "_queue = sa.update(inbox).values(due_at=now + _wait)",
        "_queue = sa.update(inbox).values(due_at=now + 10**9)",
    ),
]

MUTANTS = [*PROVIDERS, *SERVICE, *QUEUES]
