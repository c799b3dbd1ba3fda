"""Single defects, each of which breaks a promise and must turn a generated project's tests red.

A mutant is an edit of one place. Write one for every promise whose test could have been forgotten.
"""

from dataclasses import dataclass

from project import CHOICES, Variant

STRIPE = (Variant("stripe", "background"),)
CUSTOM = (Variant("custom", "background"),)
UNSIGNED = (Variant("unsigned", "background"),)
CELERY = (Variant("stripe", "celery"),)
ARQ = (Variant("stripe", "arq"),)
EVERYWHERE = tuple(Variant("stripe", processing) for processing in CHOICES["processing"])


@dataclass(frozen=True)
class Mutant:
    """A defect: in `file`, the one occurrence of `old` becomes `new`.

    `test`, a path below the project's `tests` and a name, is what has to notice, besides others
    perhaps. It is run alone, in each of `variants` and on one `database`, for a mutant should cost
    no more than it must.
    """

    name: str
    promise: str
    file: str
    old: str
    new: str
    test: str
    variants: tuple[Variant, ...] = STRIPE
    database: str = "sqlite"


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
SAMPLES = "the samples, as their provider sends them"

PROVIDERS = [
    Mutant(
        "any signature will do",
        VERIFICATION,
        "app/providers/stripe.py",
        "    if not any(_signed(payload, header, secret) for secret in secrets):\n",
        "    if False:\n",
        "test_{module}.py::test_a_signature_that_is_not_right_is_refused",
        EVERYWHERE,
    ),
    Mutant(
        "how long a comparison takes tells how much was right",
        VERIFICATION,
        "app/providers/stripe.py",
        "        WebhookSignature.verify_header(payload, header, secret)\n",
        "        make = WebhookSignature.generate_signature_header\n"
        "        return header == str(make(payload.decode(), secret, _timestamp(header)))\n",
        "test_{module}.py::test_signatures_are_compared_in_constant_time",
        EVERYWHERE,
    ),
    Mutant(
        "reserialised JSON is verified",
        VERIFICATION,
        "app/providers/stripe.py",
        "    payload = await request.body()\n",
        "    import json\n    payload = json.dumps(json.loads(await request.body())).encode()\n",
        "test_{module}.py::test_the_raw_bytes_are_what_counts",
    ),
    Mutant(
        "reserialised JSON is stored",
        COMMITTED,
        "app/providers/stripe.py",
        '    return Event("stripe", id, type, payload, data)\n',
        '    import json\n    return Event("stripe", id, type, json.dumps(data).encode(), data)\n',
        "test_{module}.py::test_the_raw_bytes_are_what_counts",
    ),
    Mutant(
        "the body is parsed before it is verified",
        VERIFICATION,
        "app/providers/stripe.py",
        "    header = request.headers.get(HEADER)\n",
        "    header = request.headers.get(HEADER)\n    parse_json(payload)\n",
        "test_{module}.py::test_nothing_is_read_before_it_is_verified",
        EVERYWHERE,
    ),
    Mutant(
        "a signature is good for ever",
        VERIFICATION,
        "app/providers/stripe.py",
        "    if abs(age) > TOLERANCE:\n",
        "    if False:\n",
        "test_{module}.py::test_a_signature_is_good_for_five_minutes_before_and_after",
    ),
    Mutant(
        "a signature may come from the future",
        VERIFICATION,
        "app/providers/stripe.py",
        "    if abs(age) > TOLERANCE:\n",
        "    if age > TOLERANCE:\n",
        "test_{module}.py::test_a_signature_is_good_for_five_minutes_before_and_after",
        EVERYWHERE,
    ),
    Mutant(
        "a signature may be stale",
        VERIFICATION,
        "app/providers/stripe.py",
        "    if abs(age) > TOLERANCE:\n",
        "    if -age > TOLERANCE:\n",
        "test_{module}.py::test_a_signature_is_good_for_five_minutes_before_and_after",
        EVERYWHERE,
    ),
    Mutant(
        "a time of many digits is a server error",
        CLOSED,
        "app/providers/stripe.py",
        "    age = int(time.time()) - _timestamp(header)\n",
        "    age = time.time() - _timestamp(header)\n",
        "test_{module}.py::test_a_signature_is_good_for_five_minutes_before_and_after",
    ),
    Mutant(
        "a sample is signed as something else",
        SAMPLES,
        "samples/stripe.py",
        '    return payload, {HEADER: sign(payload, next(iter(secrets), ""))}\n',
        '    return payload + b"\\n", {HEADER: sign(payload, next(iter(secrets), ""))}\n',
        "test_cli.py::test_send_signs_and_posts_a_sample_as_often_as_wanted",
        EVERYWHERE,
    ),
    Mutant(
        "the example in the documentation is not signed",
        SAMPLES,
        "samples/docs.py",
        '"example": headers[key]} | shown for key in headers]',
        '"example": key} | shown for key in headers]',
        "test_http.py::test_the_documented_example_can_be_tried_out",
    ),
    Mutant(
        "only the first secret counts",
        VERIFICATION,
        "app/providers/stripe.py",
        "for secret in secrets)",
        "for secret in secrets[:1])",
        "test_{module}.py::test_each_of_the_secrets_is_accepted",
    ),
    Mutant(
        "a header that is not ASCII is a server error",
        CLOSED,
        "app/providers/stripe.py",
        "    except (SignatureVerificationError, TypeError, ValueError):\n",
        "    except (SignatureVerificationError, ValueError):\n",
        "test_{module}.py::test_a_signature_that_is_not_right_is_refused",
        EVERYWHERE,
    ),
    Mutant(
        "a body that is not UTF-8 is a server error",
        CLOSED,
        "app/providers/stripe.py",
        "    except (SignatureVerificationError, TypeError, ValueError):\n",
        "    except (SignatureVerificationError, TypeError):\n",
        "test_{module}.py::test_nothing_is_read_before_it_is_verified",
    ),
    Mutant(
        "a body that is no object is a server error",
        CLOSED,
        "app/providers/stripe.py",
        "    if not isinstance(data, dict):\n",
        "    if False:\n",
        "test_{module}.py::test_what_is_signed_but_no_event_is_a_bad_request",
    ),
    Mutant(
        "any signature will do",
        VERIFICATION,
        "app/providers/custom.py",
        "    if not any(hmac.compare_digest(given, sign(payload, s, timestamp).encode())"
        " for s in secrets):\n",
        "    if False:\n",
        "test_{module}.py::test_a_signature_that_is_not_right_is_refused",
        CUSTOM,
    ),
    Mutant(
        "how long a comparison takes tells how much was right",
        VERIFICATION,
        "app/providers/custom.py",
        "hmac.compare_digest(given, sign(payload, s, timestamp).encode())",
        "given == sign(payload, s, timestamp).encode()",
        "test_{module}.py::test_signatures_are_compared_in_constant_time",
        CUSTOM,
    ),
    Mutant(
        "reserialised JSON is verified",
        VERIFICATION,
        "app/providers/custom.py",
        "    payload = await request.body()\n",
        "    import json\n    payload = json.dumps(json.loads(await request.body())).encode()\n",
        "test_{module}.py::test_the_raw_bytes_are_what_counts",
        CUSTOM,
    ),
    Mutant(
        "reserialised JSON is stored",
        COMMITTED,
        "app/providers/custom.py",
        '    return Event("custom", name(id, "id"), type, payload, data)\n',
        "    import json\n"
        '    return Event("custom", name(id, "id"), type, json.dumps(data).encode(), data)\n',
        "test_{module}.py::test_the_raw_bytes_are_what_counts",
        CUSTOM,
    ),
    Mutant(
        "the body is parsed before it is verified",
        VERIFICATION,
        "app/providers/custom.py",
        "    signature = request.headers.get(settings.custom_webhook_header)\n",
        "    signature = request.headers.get(settings.custom_webhook_header)\n"
        "    parse_json(payload)\n",
        "test_{module}.py::test_nothing_is_read_before_it_is_verified",
        CUSTOM,
    ),
    Mutant(
        "the time is not signed",
        VERIFICATION,
        "app/providers/custom.py",
        "sign(payload, s, timestamp).encode()",
        "sign(payload, s, None).encode()",
        "test_{module}.py::test_with_a_timestamp_a_signature_is_good_for_a_while_before_and_after",
        CUSTOM,
    ),
    Mutant(
        "a signature is good for ever",
        VERIFICATION,
        "app/providers/custom.py",
        "    if abs(age) > settings.custom_webhook_tolerance_seconds:\n",
        "    if False:\n",
        "test_{module}.py::test_with_a_timestamp_a_signature_is_good_for_a_while_before_and_after",
        CUSTOM,
    ),
    Mutant(
        "a signature may come from the future",
        VERIFICATION,
        "app/providers/custom.py",
        "    if abs(age) > settings.custom_webhook_tolerance_seconds:\n",
        "    if age > settings.custom_webhook_tolerance_seconds:\n",
        "test_{module}.py::test_with_a_timestamp_a_signature_is_good_for_a_while_before_and_after",
        CUSTOM,
    ),
    Mutant(
        "a signature may be stale",
        VERIFICATION,
        "app/providers/custom.py",
        "    if abs(age) > settings.custom_webhook_tolerance_seconds:\n",
        "    if -age > settings.custom_webhook_tolerance_seconds:\n",
        "test_{module}.py::test_with_a_timestamp_a_signature_is_good_for_a_while_before_and_after",
        CUSTOM,
    ),
    Mutant(
        "only the first secret counts",
        VERIFICATION,
        "app/providers/custom.py",
        "for s in secrets)",
        "for s in secrets[:1])",
        "test_{module}.py::test_each_of_the_secrets_is_accepted",
        CUSTOM,
    ),
    Mutant(
        "a header that is not ASCII is a server error",
        CLOSED,
        "app/providers/custom.py",
        'given = signature.encode("latin-1")',
        'given = signature.encode("ascii")',
        "test_{module}.py::test_a_signature_that_is_not_right_is_refused",
        CUSTOM,
    ),
    Mutant(
        "a malformed time is a server error",
        CLOSED,
        "app/providers/custom.py",
        "if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):\n",
        "if not timestamp:\n",
        "test_{module}.py::test_a_timestamp_that_is_none_is_refused",
        CUSTOM,
    ),
    Mutant(
        "of events without an id, a body of another type is a duplicate",
        COMMITTED,
        "app/providers/custom.py",
        "hashlib.sha256(head + payload)",
        "hashlib.sha256(payload)",
        "test_{module}.py::test_without_an_id_equal_bodies_of_two_types_are_two_events",
        CUSTOM,
    ),
    Mutant(
        "a sample has no time although one is signed",
        SAMPLES,
        "samples/custom.py",
        "    if settings.custom_webhook_timestamp_header:\n",
        "    if False:\n",
        "test_{module}.py::test_a_delivery_has_a_timestamp_where_one_is_agreed_on",
        CUSTOM,
    ),
    Mutant(
        "a body that does not fit is a server error",
        CLOSED,
        "app/providers/unsigned.py",
        "    except ValidationError as error:\n",
        "    except ZeroDivisionError as error:\n",
        "test_{module}.py::test_what_does_not_fit_is_refused_with_the_reason",
        UNSIGNED,
    ),
    Mutant(
        "what does not fit is refused, and nobody is told",
        HTTP,
        "app/main.py",
        "[*webhooks.REFUSALS, 413, 422]",
        "[*webhooks.REFUSALS, 413]",
        "test_{module}.py::test_a_refusal_is_logged_and_counted_without_what_was_sent",
        UNSIGNED,
    ),
]

SERVICE = [
    Mutant(
        "the unique constraint is forgotten",
        ONCE,
        "app/models.py",
        '    sa.UniqueConstraint("event_id", "provider"),\n',
        "",
        "test_inbox.py::test_an_event_is_added_once",
        EVERYWHERE,
    ),
    Mutant(
        "a duplicate is an error",
        ONCE,
        "app/inbox.py",
        '" ON CONFLICT (event_id, provider) DO NOTHING RETURNING',
        '" RETURNING',
        "test_inbox.py::test_an_event_is_added_once",
        EVERYWHERE,
    ),
    Mutant(
        "of equal events that come at once, the last is the new one",
        ONCE,
        "app/inbox.py",
        "for event in reversed(events)}",
        "for event in events}",
        "test_inbox.py::test_of_equal_events_at_once_the_first_is_new",
    ),
    Mutant(
        "whatever conflicts passes for a duplicate",
        COMMITTED,
        "app/inbox.py",
        '" ON CONFLICT (event_id, provider) DO NOTHING RETURNING',
        '" ON CONFLICT DO NOTHING RETURNING',
        "test_inbox.py::test_what_conflicts_with_another_event_is_no_duplicate",
        EVERYWHERE,
    ),
    Mutant(
        "the database may be in memory",
        COMMITTED,
        "app/database.py",
        'if is_sqlite and ":memory:" in (url.database or ":memory:"):\n',
        "if False:\n",
        "test_config.py::test_a_database_that_would_not_last_is_refused",
    ),
    Mutant(
        "check, then insert",
        ONCE,
        "app/inbox.py",
        "        async with asyncio.timeout(settings.ack_deadline_seconds):\n"
        "            new = await self._commits.submit(_add, event)\n",
        "        seen = sa.select(inbox.c.id).where(inbox.c.event_id == event.id)\n"
        "        async with self.engine.connect() as connection:\n"
        "            if await connection.scalar(seen):\n"
        "                return False\n"
        "        row = {'provider': event.provider, 'event_id': event.id, 'type': event.type}\n"
        "        async with self.engine.begin() as connection:\n"
        "            await connection.execute(sa.insert(inbox), row | {'payload': event.payload})\n"
        "        new = True\n",
        "test_http.py::test_concurrent_duplicates_are_all_acknowledged_and_kept_once",
        EVERYWHERE,
    ),
    Mutant(
        "acknowledged before the commit",
        COMMITTED,
        "app/webhooks.py",
        "            new = await request.app.state.inbox.add(event)\n",
        "            adding = asyncio.create_task(request.app.state.inbox.add(event))\n"
        "            adding.add_done_callback(lambda task: task.exception())\n"
        "            new = True\n",
        "test_http.py::test_without_its_table_it_asks_to_try_again_and_recovers",
        EVERYWHERE,
    ),
    Mutant(
        "acknowledged although it was not committed",
        COMMITTED,
        "app/webhooks.py",
        'return JSONResponse({"detail": "try again later"}, 503, {"Retry-After": "10"})',
        "return Response(b'{}')",
        "test_http.py::test_without_its_table_it_asks_to_try_again_and_recovers",
        EVERYWHERE,
    ),
    Mutant(
        "a commit need not reach the disk",
        COMMITTED,
        "app/database.py",
        '"synchronous=FULL"',
        '"synchronous=NORMAL"',
        "test_inbox.py::test_a_commit_is_on_disk",
        EVERYWHERE,
    ),
    Mutant(
        "the sender waits as long as the database does",
        COMMITTED,
        "app/inbox.py",
        "        async with asyncio.timeout(settings.ack_deadline_seconds):\n",
        "        async with asyncio.timeout(None):\n",
        "test_http.py::test_without_a_commit_in_time_it_asks_to_try_again_and_recovers",
    ),
    Mutant(
        "one bad row fails all that are committed with it",
        COMMITTED,
        "app/commits.py",
        "            if len(batch) == 1 or isinstance(error, OperationalError):\n",
        "            if True:\n",
        "test_inbox.py::test_what_cannot_be_stored_fails_alone",
    ),
    Mutant(
        "who gives up waiting is kept in memory",
        COMMITTED,
        "app/commits.py",
        "        result.add_done_callback(lambda result: self._gathering.pop(result, None))\n",
        "",
        "test_inbox.py::test_nobody_waits_for_the_database_for_longer_than_the_deadline",
    ),
    Mutant(
        "done before it is handled",
        CRASH,
        "app/processing.py",
        "            async with asyncio.timeout(settings.handler_timeout_seconds):\n"
        "                await handlers.load()[claim.provider](event)\n"
        "        finally:\n"
        "            handled()\n"
        '        if not committed and not await inbox.finish(claim.key, "done"):\n'
        "            raise LeaseLost\n",
        '            await inbox.finish(claim.key, "done")\n'
        "            await handlers.load()[claim.provider](event)\n"
        "        finally:\n"
        "            handled()\n",
        "test_processing.py::test_a_failed_attempt_is_retried_later_and_keeps_its_error",
        EVERYWHERE,
    ),
    Mutant(
        "done although the handler failed",
        RETRIES,
        "app/processing.py",
        "            await _failed(inbox, claim, error)\n",
        '            await inbox.finish(claim.key, "done")\n',
        "test_processing.py::test_a_failed_attempt_is_retried_later_and_keeps_its_error",
    ),
    Mutant(
        "the lease never runs out",
        LEASES,
        "app/inbox.py",
        "due_at=now + _lease)",
        "due_at=now + 10**9)",
        "test_inbox.py::test_a_claim_is_a_lease_that_runs_out",
        EVERYWHERE,
    ),
    Mutant(
        "there is no lease",
        LEASES,
        "app/inbox.py",
        "due_at=now + _lease)",
        "due_at=now)",
        "test_inbox.py::test_a_claim_is_a_lease_that_runs_out",
    ),
    Mutant(
        "leases that begin together run out together",
        CRASH,
        "app/inbox.py",
        " / 32.0)",
        " * 0)",
        "test_inbox.py::test_what_is_claimed_together_is_not_due_together_again",
    ),
    Mutant(
        "the lease runs out before the handler must end",
        LEASES,
        "app/inbox.py",
        "LEASE_SECONDS = settings.handler_timeout_seconds + settings.ack_deadline_seconds\n",
        "LEASE_SECONDS = settings.handler_timeout_seconds / 2\n",
        "test_inbox.py::test_a_claim_is_a_lease_that_runs_out",
    ),
    Mutant(
        "an attempt that ends is overtaken in the same commit",
        LEASES,
        "app/inbox.py",
        "_ORDER = (_add, _complete, _finish, _claim, _claim_due, _hand_over)",
        "_ORDER = (_add, _claim, _claim_due, _hand_over, _complete, _finish)",
        "test_inbox.py::test_an_attempt_that_ends_is_not_overtaken_in_the_same_commit",
    ),
    Mutant(
        "an attempt that fails too late ends a later one",
        LEASES,
        "app/processing.py",
        '"dead" if dead else "pending", delay, text):\n        raise LeaseLost\n',
        '"dead" if dead else "pending", delay, text):\n        pass\n',
        "test_processing.py::test_a_late_failure_does_not_end_a_later_attempt",
    ),
    Mutant(
        "a message is good for any number of attempts",
        LEASES,
        "app/inbox.py",
        ".where(_is_latest, is_pending)",
        ".where(sa.or_(inbox.c.id > 0, _is_latest), is_pending)",
        "test_inbox.py::test_a_message_is_good_for_one_attempt",
    ),
    Mutant(
        "who has lost its lease is not told from who ended in time",
        LEASES,
        "app/inbox.py",
        "    return [key in done for key in keys]\n",
        "    return [True for key in keys]\n",
        "test_inbox.py::test_of_attempts_that_end_together_only_the_late_one_is_told",
    ),
    Mutant(
        "an old attempt can commit its transaction",
        EXACTLY_ONCE,
        "app/inbox.py",
        "inbox.c.attempts == key.attempts",
        "inbox.c.attempts >= key.attempts",
        "test_inbox.py::test_an_attempt_whose_lease_is_lost_commits_nothing",
    ),
    Mutant(
        "an old attempt can end a later one",
        LEASES,
        "app/inbox.py",
        "inbox.c.attempts == key.attempts, ",
        "",
        "test_inbox.py::test_an_attempt_whose_lease_is_lost_cannot_finish_the_event",
        EVERYWHERE,
    ),
    Mutant(
        "an event has any number of transactions",
        EXACTLY_ONCE,
        "app/inbox.py",
        "inbox.c.attempts == key.attempts, is_pending)",
        "inbox.c.attempts == key.attempts)",
        "test_inbox.py::test_an_event_is_done_once",
    ),
    Mutant(
        "an old attempt can call a later one done",
        LEASES,
        "app/inbox.py",
        "inbox.c.id.in_(_latest.with_for_update())",
        'sa.or_(inbox.c.id.in_(_latest), inbox.c.id.in_(sa.bindparam("ids", expanding=True)))',
        "test_inbox.py::test_an_attempt_whose_lease_is_lost_cannot_finish_the_event",
    ),
    Mutant(
        "a transaction inside a transaction waits for itself",
        EXACTLY_ONCE,
        "app/processing.py",
        "        if begun:\n",
        "        if committed:\n",
        "test_processing.py::test_a_transaction_inside_a_transaction_is_told_at_once",
        EVERYWHERE,
    ),
    Mutant(
        "a handler may hang for longer than it is allowed to",
        LEASES,
        "app/processing.py",
        "asyncio.timeout(settings.handler_timeout_seconds)",
        "asyncio.timeout(settings.handler_timeout_seconds * 3)",
        "test_processing.py::test_a_handler_that_hangs_is_ended_and_retried",
    ),
    Mutant(
        "attempts are not counted when they begin",
        RETRIES,
        "app/inbox.py",
        "values(attempts=inbox.c.attempts + 1, ",
        "values(attempts=inbox.c.attempts, ",
        "test_inbox.py::test_a_claim_is_a_lease_that_runs_out",
    ),
    Mutant(
        "attempts are counted when they end",
        RETRIES,
        "app/inbox.py",
        "    return sa.update(inbox).where(*latest).values(state=state, **times, **what)\n",
        '    what["attempts"] = inbox.c.attempts + 1\n'
        "    return sa.update(inbox).where(*latest).values(state=state, **times, **what)\n\n\n"
        "_take_due = _take_due.values(attempts=inbox.c.attempts)\n"
        "_take_named = _take_named.values(attempts=inbox.c.attempts)\n",
        "test_processing.py::test_an_event_that_kills_its_worker_does_not_loop_for_ever",
        EVERYWHERE,
    ),
    Mutant(
        "an event that kills its worker is attempted for ever",
        RETRIES,
        "app/processing.py",
        "        if claim.attempts > claim.attempt_limit:\n",
        "        if False:\n",
        "test_processing.py::test_an_event_that_kills_its_worker_does_not_loop_for_ever",
        EVERYWHERE,
    ),
    Mutant(
        "a handler that cancels itself is attempted for ever",
        RETRIES,
        "app/processing.py",
        "            refund = int(claim.attempts < 2 * settings.max_attempts)\n",
        "            refund = 1\n",
        "test_processing.py::test_an_attempt_that_cancels_itself_does_not_loop_for_ever",
        EVERYWHERE,
    ),
    Mutant(
        "one failure is death",
        RETRIES,
        "app/processing.py",
        "    dead = claim.attempts >= claim.attempt_limit\n",
        "    dead = True\n",
        "test_processing.py::test_after_the_last_attempt_it_is_dead_logged_and_kept",
    ),
    Mutant(
        "retried for ever",
        RETRIES,
        "app/processing.py",
        "    dead = claim.attempts >= claim.attempt_limit\n",
        "    dead = False\n",
        "test_processing.py::test_after_the_last_attempt_it_is_dead_logged_and_kept",
        EVERYWHERE,
    ),
    Mutant(
        "retried at once",
        RETRIES,
        "app/processing.py",
        "    delay = backoff(claim.attempts)\n",
        "    delay = 0.0\n",
        "test_processing.py::test_a_failed_attempt_is_retried_later_and_keeps_its_error",
        EVERYWHERE,
    ),
    Mutant(
        "the wait does not double",
        RETRIES,
        "app/processing.py",
        "settings.retry_base_seconds * 2 ** min(attempt - 1, 60)",
        "settings.retry_base_seconds",
        "test_processing.py::test_the_wait_doubles_up_to_the_cap_and_is_spread",
    ),
    Mutant(
        "the wait is not bounded",
        RETRIES,
        "app/processing.py",
        "most = min(settings.retry_cap_seconds, settings.retry_base_seconds"
        " * 2 ** min(attempt - 1, 60))",
        "most = settings.retry_base_seconds * 2 ** min(attempt - 1, 60)",
        "test_processing.py::test_the_wait_doubles_up_to_the_cap_and_is_spread",
    ),
    Mutant(
        "the wait is not spread",
        RETRIES,
        "app/processing.py",
        "random.uniform(most / 2, most)",
        "most",
        "test_processing.py::test_the_wait_doubles_up_to_the_cap_and_is_spread",
    ),
    Mutant(
        "a dead event is not logged as an error",
        RETRIES,
        "app/processing.py",
        "logging.ERROR if dead else",
        "logging.INFO if dead else",
        "test_processing.py::test_after_the_last_attempt_it_is_dead_logged_and_kept",
    ),
    Mutant(
        "a dead event keeps no error",
        RETRIES,
        "app/processing.py",
        '"dead" if dead else "pending", delay, text)',
        '"dead" if dead else "pending", delay)',
        "test_processing.py::test_after_the_last_attempt_it_is_dead_logged_and_kept",
    ),
    Mutant(
        "a replayed event has no attempts left",
        RETRIES,
        "app/__main__.py",
        "attempt_limit=limit, finished_at=None",
        "finished_at=None",
        "test_processing.py::test_a_replayed_event_has_all_its_attempts_again",
    ),
    Mutant(
        "an attempt ended by a shutdown counts",
        DRAINS,
        "app/processing.py",
        'finish(claim.key, "pending", refund=refund)',
        'finish(claim.key, "pending")',
        "test_processing.py::test_an_attempt_ended_by_a_shutdown_does_not_count",
        EVERYWHERE,
    ),
    Mutant(
        "a shutdown does not wait for what is being written",
        DRAINS,
        "app/commits.py",
        "            await self._flushing\n",
        "            pass\n",
        "test_inbox.py::test_what_is_being_written_when_it_closes_is_kept",
        EVERYWHERE,
    ),
    Mutant(
        "a handler that exits ends the service",
        CRASH,
        "app/processing.py",
        "    except (Exception, SystemExit, asyncio.CancelledError) as error:\n",
        "    except (Exception, asyncio.CancelledError) as error:\n",
        "test_processing.py::test_a_handler_that_exits_does_not_end_the_service",
    ),
    Mutant(
        "nothing sweeps",
        CRASH,
        "app/relay.py",
        "asyncio.timeout(settings.sweep_seconds)",
        "asyncio.timeout(None)",
        "test_relay.py::test_a_new_event_wakes_it_and_the_clock_does_otherwise",
        EVERYWHERE,
    ),
    Mutant(
        "a relay whose database is away does not hear that it is to stop",
        DRAINS,
        "app/relay.py",
        "await asyncio.wait_for(stopping.wait(), settings.sweep_seconds)",
        "await asyncio.sleep(settings.sweep_seconds)",
        "test_relay.py::test_it_stops_at_once_even_while_its_database_is_away",
    ),
    Mutant(
        "the first error ends the relay",
        CRASH,
        "app/relay.py",
        "        except Exception as error:\n",
        "        except ZeroDivisionError as error:\n",
        "test_relay.py::test_a_broker_that_fails_is_tried_again",
        EVERYWHERE,
    ),
    Mutant(
        "marked done in a transaction of its own",
        EXACTLY_ONCE,
        "app/inbox.py",
        '            if (await connection.execute(_end(key, "done", 0, None, 0))).rowcount != 1:\n'
        "                raise LeaseLost\n"
        "            yield connection\n"
        "            # After an error that the handler ignored, PostgreSQL would roll back at the"
        " commit.\n"
        "            await connection.execute(sa.select(1))\n",
        "            yield connection\n"
        "            await connection.execute(sa.select(1))\n"
        '        if not await self.finish(key, "done"):\n'
        "            raise LeaseLost\n",
        "test_processing.py::test_a_lost_lease_rolls_the_effect_back",
        EVERYWHERE,
    ),
    Mutant(
        "a transaction needs no lease",
        EXACTLY_ONCE,
        "app/inbox.py",
        '            if (await connection.execute(_end(key, "done", 0, None, 0))).rowcount != 1:\n'
        "                raise LeaseLost\n",
        '            await connection.execute(_end(key, "done", 0, None, 0))\n',
        "test_processing.py::test_a_lost_lease_rolls_the_effect_back",
        EVERYWHERE,
    ),
    Mutant(
        "the longest due come last",
        CRASH,
        "app/inbox.py",
        ".order_by(inbox.c.due_at)",
        ".order_by(inbox.c.due_at.desc())",
        "test_inbox.py::test_the_longest_due_are_claimed_first_and_once",
    ),
    Mutant(
        "an unset secret is accepted",
        CLOSED,
        "app/config.py",
        'problem = "" if secrets else "is not set"',
        'problem = ""',
        "test_config.py::test_a_secret_that_is_none_stops_production",
        EVERYWHERE,
    ),
    Mutant(
        "an empty secret is accepted",
        CLOSED,
        "app/config.py",
        "(whsec_)?([x*.]*|",
        "(whsec_)?([x*.]+|",
        "test_config.py::test_a_secret_that_is_none_stops_production",
        EVERYWHERE,
    ),
    Mutant(
        "a secret that is no text is accepted",
        CLOSED,
        "app/config.py",
        "    if not all(map(str.isprintable, secrets)):\n",
        "    if False:\n",
        "test_config.py::test_a_secret_that_is_none_stops_production",
    ),
    Mutant(
        "a placeholder is accepted",
        CLOSED,
        "app/config.py",
        "    if any(PLACEHOLDER.search(secret) for secret in secrets):\n",
        "    if False:\n",
        "test_config.py::test_a_secret_that_is_none_stops_production",
        EVERYWHERE,
    ),
    Mutant(
        "development is the default",
        CLOSED,
        "app/config.py",
        '["development", "production"] = "production"',
        '["development", "production"] = "development"',
        "test_service.py::test_production_does_not_start_without_a_real_secret",
    ),
    Mutant(
        "nested too deeply is a server error",
        CLOSED,
        "app/events.py",
        "    except (ValueError, RecursionError) as error:\n",
        "    except ValueError as error:\n",
        "test_{module}.py::test_what_is_signed_but_no_event_is_a_bad_request",
        EVERYWHERE,
    ),
    Mutant(
        "NaN is JSON",
        HTTP,
        "app/events.py",
        "json.JSONDecoder(parse_constant=_refuse)",
        "json.JSONDecoder()",
        "test_{module}.py::test_what_is_signed_but_no_event_is_a_bad_request",
    ),
    Mutant(
        "an id may be anything",
        HTTP,
        "app/events.py",
        "    if not isinstance(text, str) or not 0 < len(text) <= NAME_LENGTH"
        " or not text.isprintable():\n",
        "    if not isinstance(text, str):\n",
        "test_{module}.py::test_what_is_signed_but_no_event_is_a_bad_request",
    ),
    Mutant(
        "a body may be of any size",
        HTTP,
        "app/main.py",
        "    max_body_size=settings.max_body_bytes,\n",
        "",
        "test_http.py::test_a_body_declared_too_large_is_refused_and_told",
    ),
    Mutant(
        "what is too large is refused, and nobody is told",
        HTTP,
        "app/main.py",
        "[*webhooks.REFUSALS, 413, 422]",
        "[*webhooks.REFUSALS, 422]",
        "test_http.py::test_a_body_declared_too_large_is_refused_and_told",
    ),
    Mutant(
        "half a pair of surrogates is not JSON",
        HTTP,
        "app/events.py",
        "        return _decoder.decode(payload.decode())\n",
        "        raise ValueError\n",
        "test_{module}.py::test_half_a_character_is_kept_as_it_was_sent",
    ),
    Mutant(
        "a trailing slash redirects",
        HTTP,
        "app/main.py",
        "redirect_slashes=False",
        "redirect_slashes=True",
        "test_http.py::test_an_unknown_path_is_not_found_and_never_redirected",
    ),
    Mutant(
        "an impostor is told what is wrong",
        HTTP,
        "app/webhooks.py",
        'JSONResponse({"detail": detail}, status, {',
        'JSONResponse({"detail": reason}, status, {',
        "test_{module}.py::test_a_signature_that_is_not_right_is_refused",
    ),
    Mutant(
        "the sender is not told when to try again",
        HTTP,
        "app/webhooks.py",
        '{"detail": "try again later"}, 503, {"Retry-After": "10"})',
        '{"detail": "try again later"}, 503)',
        "test_http.py::test_without_its_table_it_asks_to_try_again_and_recovers",
    ),
]

QUEUES = [
    Mutant(
        "the sender waits for the broker",
        BROKER,
        "app/webhooks.py",
        "            new = await request.app.state.inbox.add(event)\n",
        "            new = await request.app.state.inbox.add(event)\n"
        "            from app import queue\n"
        "            await queue.enqueue(request.app.state.inbox)\n",
        "test_http.py::test_without_its_broker_it_acknowledges_as_ever",
        EVERYWHERE,
    ),
    Mutant(
        "any number of events at a time",
        DRAINS,
        "app/queue.py",
        "    room = settings.concurrency - len(_handling)\n",
        "    room = 10_000\n",
        "test_service.py::test_a_flood_is_handled_a_few_at_a_time",
    ),
    Mutant(
        "a shutdown waits for nothing",
        DRAINS,
        "app/queue.py",
        "timeout=settings.drain_seconds)",
        "timeout=0)",
        "test_service.py::test_a_shutdown_waits_for_what_is_being_handled",
    ),
    Mutant(
        "a shutdown waits for ever",
        DRAINS,
        "app/queue.py",
        "timeout=settings.drain_seconds)",
        "timeout=16)",
        "test_service.py::test_a_shutdown_does_not_wait_for_ever",
    ),
    Mutant(
        "any number of events at a time",
        DRAINS,
        "app/queue.py",
        "worker_concurrency=settings.concurrency,",
        "worker_concurrency=100,",
        "test_service.py::test_a_flood_is_handled_a_few_at_a_time",
        CELERY,
    ),
    Mutant(
        "a shutdown waits for nothing",
        DRAINS,
        "app/queue.py",
        "call_later, settings.drain_seconds, ",
        "call_later, 0, ",
        "test_service.py::test_a_shutdown_waits_for_what_is_being_handled",
        CELERY,
    ),
    Mutant(
        "a shutdown waits for ever",
        DRAINS,
        "app/queue.py",
        "call_later, settings.drain_seconds, ",
        "call_later, 16, ",
        "test_service.py::test_a_shutdown_does_not_wait_for_ever",
        CELERY,
    ),
    Mutant(
        "any number of events at a time",
        DRAINS,
        "app/queue.py",
        "max_jobs = settings.concurrency",
        "max_jobs = 100",
        "test_service.py::test_a_flood_is_handled_a_few_at_a_time",
        ARQ,
    ),
    Mutant(
        "a shutdown waits for nothing",
        DRAINS,
        "app/queue.py",
        "job_completion_wait = math.ceil(settings.drain_seconds)",
        "job_completion_wait = 0",
        "test_service.py::test_a_shutdown_waits_for_what_is_being_handled",
        ARQ,
    ),
    Mutant(
        "a shutdown waits for ever",
        DRAINS,
        "app/queue.py",
        "job_completion_wait = math.ceil(settings.drain_seconds)",
        "job_completion_wait = 16",
        "test_service.py::test_a_shutdown_does_not_wait_for_ever",
        ARQ,
    ),
    Mutant(
        "taken for the queue, and never put there",
        BROKER,
        "app/queue.py",
        "        await asyncio.to_thread(_publish, keys)\n",
        "        pass\n",
        "test_service.py::test_every_sample_is_handled",
        CELERY,
    ),
    Mutant(
        "taken for the queue, and never put there",
        BROKER,
        "app/queue.py",
        "        for key in keys:\n",
        "        for key in keys[:0]:\n",
        "test_service.py::test_every_sample_is_handled",
        ARQ,
    ),
    Mutant(
        "what could not be put into the queue waits as if it had been",
        BROKER,
        "app/inbox.py",
        '*(self.finish(key, "pending") for key in keys)',
        "",
        "test_inbox.py::test_what_cannot_be_put_into_the_queue_is_due_at_once",
        EVERYWHERE,
    ),
    Mutant(
        "what no worker took is never handed over again",
        BROKER,
        "app/inbox.py",
        "_queue = sa.update(inbox).where(_is_due).values(due_at=now + _wait)",
        "_queue = sa.update(inbox).where(_is_due).values(due_at=now + 10**9)",
        "test_inbox.py::test_what_no_worker_takes_is_handed_over_again_ever_more_rarely",
        EVERYWHERE,
    ),
]

ON_POSTGRESQL = [
    Mutant(
        "an event whose row id is taken passes for a duplicate",
        COMMITTED,
        "app/inbox.py",
        '" ON CONFLICT (event_id, provider) DO NOTHING RETURNING',
        '" ON CONFLICT DO NOTHING RETURNING',
        "test_inbox.py::test_an_event_whose_row_id_is_taken_is_no_duplicate",
        database="postgresql",
    ),
    Mutant(
        "a connection that the server has closed costs what was to be committed",
        COMMITTED,
        "app/commits.py",
        "            if again and isinstance(",
        "            if not again and isinstance(",
        "test_inbox.py::test_a_connection_that_was_closed_while_idle_costs_no_event",
        database="postgresql",
    ),
    Mutant(
        "a row that somebody has locked keeps all others from being committed",
        COMMITTED,
        "app/database.py",
        '    connection.execute(f"SET lock_timeout = {int(settings.ack_deadline_seconds * 500)}")',
        '    connection.execute("SET lock_timeout = 0")',
        "test_inbox.py::"
        "test_a_row_that_somebody_has_locked_keeps_no_new_event_waiting_for_too_long",
        database="postgresql",
    ),
    Mutant(
        "done although its transaction was rolled back",
        EXACTLY_ONCE,
        "app/inbox.py",
        "            await connection.execute(sa.select(1))\n",
        "",
        "test_processing.py::"
        "test_an_sql_error_that_a_handler_ignores_parts_no_effect_from_its_event",
        database="postgresql",
    ),
    Mutant(
        "a look for what is due reads the whole index",
        DRAINS,
        "app/database.py",
        "statement_timestamp()",
        "clock_timestamp()",
        "test_inbox.py::test_the_look_for_due_events_goes_past_those_that_are_not",
        database="postgresql",
    ),
]

MUTANTS = [*PROVIDERS, *SERVICE, *QUEUES, *ON_POSTGRESQL]
PROMISES = {each.promise for each in MUTANTS} - {HTTP, SAMPLES}
