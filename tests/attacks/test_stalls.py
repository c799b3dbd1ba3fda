"""One event or one slow call stops nothing else: all others are answered and handled.

Each of these has stopped a whole service once.
"""

import time
from collections.abc import Sequence

import psycopg
import pytest
from conftest import Figures
from live.databases import postgresql_database
from live.processes import wait_for
from live.sender import SEED, Answer, Sender, deliver, percentile_99
from live.service import ON_POSTGRESQL, ON_SQLITE, RECOVERY, Setup, account

from attacks.conftest import Run

SECONDS = 10  # of load, at least
CANCELLED = 100  # handlers
BACKGROUND_ON_SQLITE = ON_SQLITE[0]
BACKGROUND_ON_POSTGRESQL = ON_POSTGRESQL[0]


def slowest(answers: Sequence[Answer]) -> float:
    return round(max(answer.seconds for answer in answers), 2)


@pytest.mark.parametrize("setup", [BACKGROUND_ON_SQLITE, BACKGROUND_ON_POSTGRESQL], ids=str)
def test_handlers_cancelled_at_any_moment_of_their_transaction_keep_nobody_waiting(
    setup: Setup, run: Run, figures: Figures
) -> None:
    """A cancelled statement must not leave a transaction open, and with it SQLite's write lock."""
    figures(seed=SEED)
    handler = """
        # With each attempt it is more likely to end in time.
        attempts = handle.__dict__.setdefault(event.id, [])
        attempts.append(event)
        await asyncio.sleep(max(0, 0.2 - random.uniform(0, SPAN * len(attempts))))
        async with event.transaction() as db:
            for _ in range(3):
                await db.execute(sa.text("SELECT 1"))
            await db.execute(effects.insert().values(event_id=event.id))
    """
    # Seconds: some of the transactions take longer than what is left of the time.
    span = {"sqlite": 0.01, "postgresql": 0.04}[setup.database]
    handler = handler.replace("SPAN", str(span))
    with run(setup, handler, settings={"HANDLER_TIMEOUT_SECONDS": "0.2"}) as service:
        with Sender(service.ports) as sender:
            time.sleep(SECONDS)
            wait_for(
                lambda: service.printed.count("TimeoutError") > CANCELLED,
                f"{CANCELLED} handlers to be cancelled",
            )
        cancelled = service.printed.count("TimeoutError")
        figures(cancelled=cancelled, slowest_answer=slowest(sender.answers))
        figures(seconds_until_handled=service.seconds_until_handled(4 * RECOVERY))
        figures(**account(service.database, sender.answers))
    assert {answer.status for answer in sender.answers} == {200}
    assert slowest(sender.answers) < 2


@pytest.mark.parametrize("setup", ON_POSTGRESQL, ids=str)
def test_duplicates_of_an_event_in_its_transaction_are_answered_at_once_like_all_others(
    setup: Setup, run: Run, figures: Figures
) -> None:
    """PostgreSQL's ON CONFLICT waits for the transaction that has updated the row."""
    handler = """
        async with event.transaction() as db:
            await db.execute(effects.insert().values(event_id=event.id))
            if event.type == "slow":
                await asyncio.sleep(8)
    """
    with run(setup, handler, workers=2, settings={"HANDLER_TIMEOUT_SECONDS": "20"}) as service:
        answers = deliver(service.ports, "evt_slow", "slow")
        with Sender(service.ports) as sender:
            while service.database.count("event_id = 'evt_slow' AND state = 'pending'"):
                answers += deliver(service.ports, "evt_slow", "slow", times=3)
                time.sleep(0.2)
        figures(duplicates=len(answers))
        answers += sender.answers
        figures(slowest_answer=slowest(answers), p99=percentile_99(answers))
        figures(seconds_until_handled=service.seconds_until_handled())
        figures(**account(service.database, answers))
        assert service.database.count("attempts > 1") == 0
    assert {answer.status for answer in answers} == {200}
    assert slowest(answers) < 1


def test_calls_of_somebodys_api_inside_transactions_on_sqlite_refuse_no_webhook(
    run: Run, figures: Figures
) -> None:
    """They are ended after two seconds, and the error says why."""
    handler = """
        async with event.transaction() as db:
            await db.execute(effects.insert().values(event_id=event.id))
            if event.type == "slow":
                await asyncio.sleep(12)
    """
    settings = {
        "ACK_DEADLINE_SECONDS": "5",
        "HANDLER_TIMEOUT_SECONDS": "20",
        "MAX_ATTEMPTS": "1",
    }
    with run(BACKGROUND_ON_SQLITE, handler, webs=2, settings=settings) as service:
        slow = [f"slow_{number}" for number in range(6)]
        answers = [answer for each in slow for answer in deliver(service.ports, each, "slow")]
        with Sender(service.ports, pause=0.5) as sender:
            time.sleep(SECONDS)
        answers += sender.answers
        figures(slowest_answer=slowest(answers))
        figures(seconds_until_handled=service.seconds_until_handled(4 * RECOVERY))
        dead = service.database.rows(
            "SELECT event_id, error FROM webhook_events WHERE state = 'dead'"
        )
    assert {answer.status for answer in answers} == {200}
    assert sorted(str(event_id) for event_id, _ in dead) == slow
    for _, error in dead:
        assert "make calls to other services before you open it" in str(error)


def test_without_connections_left_for_its_handlers_no_event_is_buried(
    run: Run, figures: Figures
) -> None:
    role = f"poor_{SEED}"
    with postgresql_database() as database, psycopg.connect(database.url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN".encode())
        admin.execute(f"GRANT ALL ON SCHEMA public TO {role}".encode())
        try:
            url = database.url.replace("postgres@", f"{role}@")
            settings = {"DATABASE_URL": url, "MAX_ATTEMPTS": "2"}
            with run(
                BACKGROUND_ON_POSTGRESQL,
                "await leave_effect(event)",
                database=database,
                settings=settings,
            ) as service:
                # What it has is enough for acknowledgements.
                admin.execute(f"ALTER ROLE {role} CONNECTION LIMIT 1".encode())
                with Sender(service.ports) as sender:
                    time.sleep(SECONDS)
                assert database.count("state = 'pending'") > 10
                assert database.count("state = 'dead'") == 0
                admin.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1".encode())
                figures(seconds_until_handled=service.seconds_until_handled())
                figures(**account(database, sender.answers))
        finally:
            admin.execute(f"DROP OWNED BY {role}".encode())
            admin.execute(f"DROP ROLE {role}".encode())
    assert {answer.status for answer in sender.answers} == {200}
