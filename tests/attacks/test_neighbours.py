"""Others use the same broker, or the same pool of connections: neither harms the other."""

import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from conftest import Figures
from live.databases import postgresql_database
from live.processes import Process, wait_for
from live.sender import SEED, Sender, flood
from live.servers import PgBouncer
from live.service import ON_POSTGRESQL, WITH_BROKER, Setup, account
from project import clean_environment

from attacks.conftest import Run

TASKS = 40
SESSIONS = 8  # of the pool
SIMPLE = "await leave_effect(event)"

# Another application of the same company, with the default settings of its library.
SHOPS = {
    "celery": """
import os
from celery import Celery

celery = Celery("shop", broker=os.environ["BROKER_URL"])


@celery.task(name="shop.send_invoice")
def send_invoice(number):
    with open("sent", "a") as sent:
        sent.write(f"{number}\\n")


def publish(number):
    for each in range(number):
        send_invoice.delay(each)
""",
    "arq": """
import asyncio, os
from arq import create_pool
from arq.connections import RedisSettings


async def send_invoice(_, number):
    with open("sent", "a") as sent:
        sent.write(f"{number}\\n")


class WorkerSettings:
    functions = [send_invoice]
    redis_settings = RedisSettings.from_dsn(os.environ["BROKER_URL"])


def publish(number):
    async def publish_all():
        pool = await create_pool(WorkerSettings.redis_settings)
        for each in range(number):
            await pool.enqueue_job("send_invoice", each)

    asyncio.run(publish_all())
""",
}
SHOP_WORKERS = {
    "celery": "celery -A shop worker --pool solo --hostname shop@%h",
    "arq": "arq shop.WorkerSettings",
}

# A task that runs a command when it is unpickled, put where the workers of the service look.
PICKLES = {
    "celery": """
import os
from app.worker import celery

class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)

celery.send_task("anything", [Evil()], serializer="pickle")
""",
    "arq": """
import asyncio, os
from arq import create_pool
from app.worker import WorkerSettings

class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)

async def publish():
    worker = WorkerSettings
    pool = await create_pool(worker.redis_settings, default_queue_name=worker.queue_name)
    await pool.enqueue_job("anything", Evil())

asyncio.run(publish())
""",
}


@pytest.mark.parametrize("setup", WITH_BROKER, ids=str)
def test_another_application_with_default_settings_loses_none_of_its_tasks(
    setup: Setup, run: Run, tmp_path: Path, figures: Figures
) -> None:
    figures(seed=SEED)
    with run(setup, SIMPLE) as service:
        shop = tmp_path / "shop"
        shop.mkdir()
        (shop / "shop.py").write_text(SHOPS[setup.processing], encoding="utf-8")
        python = service.project.path / ".venv/bin/python"
        environment = clean_environment(BROKER_URL=service.broker)
        with Sender(service.ports, pause=0.2) as sender:
            publish = f"{python} -c __import__('shop').publish({TASKS})"
            with Process(shop, publish, environment) as publishing:
                wait_for(lambda: publishing.ended, "the tasks to be published")
            time.sleep(2)  # for our worker to take what is not its own
            command = f"{python} -m {SHOP_WORKERS[setup.processing]}"
            with Process(shop, command, environment) as worker:
                sent = shop / "sent"
                wait_for(lambda: sent.exists() and is_complete(sent), f"{TASKS} tasks", 30)
                worker.check()
        service.seconds_until_handled()
        figures(**account(service.database, sender.answers))
        assert service.database.count("attempts > 1") == 0


def is_complete(sent: Path) -> bool:
    return sorted(map(int, sent.read_text("ascii").split())) == list(range(TASKS))


@pytest.mark.parametrize("setup", WITH_BROKER, ids=str)
def test_two_generated_services_share_a_broker_and_take_nothing_from_each_other(
    setup: Setup, run: Run, figures: Figures
) -> None:
    figures(seed=SEED)
    late = {"REQUEUE_AFTER_SECONDS": "60"}  # what another has taken would show
    with (
        run(setup, SIMPLE, slug="orders", settings=late) as orders,
        run(setup, SIMPLE, slug="refunds", broker=orders.broker, settings=late) as refunds,
    ):
        with Sender(orders.ports) as to_orders, Sender(refunds.ports) as to_refunds:
            time.sleep(6)
        for service, sender in ((orders, to_orders), (refunds, to_refunds)):
            figures(seconds_until_handled=service.seconds_until_handled(20))
            figures(**account(service.database, sender.answers))


@pytest.mark.parametrize("setup", WITH_BROKER, ids=str)
def test_a_pickle_in_its_queue_is_not_opened_and_holds_nothing_up(
    setup: Setup, run: Run, figures: Figures
) -> None:
    with run(setup, SIMPLE) as service:
        service.project.write("evil.py", PICKLES[setup.processing])
        service.run("evil")
        with Sender(service.ports) as sender:
            time.sleep(3)
        service.seconds_until_handled()
        figures(**account(service.database, sender.answers))
        assert not (service.project.path / "pwned").exists()


@pytest.mark.parametrize("setup", ON_POSTGRESQL[:2], ids=str)
def test_behind_pgbouncer_all_works_and_no_trace_is_left_in_the_pooled_sessions(
    setup: Setup, run: Run, tmp_path: Path, figures: Figures
) -> None:
    figures(seed=SEED)
    with (
        postgresql_database() as database,
        PgBouncer(tmp_path, database, SESSIONS) as pool,
    ):
        untouched = settings_in_all_sessions(pool.url)
        settings = {"DATABASE_URL": pool.url}
        with run(setup, webs=2, workers=2, database=database, settings=settings) as service:
            answers = flood(service.port, [f"evt_{number:024x}" for number in range(1500)], 1000)
            with Sender(service.ports) as sender:
                time.sleep(6)
            figures(seconds_until_handled=service.seconds_until_handled(120))
            answers += sender.answers
            figures(**account(database, answers))
            afterwards = settings_in_all_sessions(pool.url)
    assert {answer.status for answer in answers} == {200}
    assert afterwards == untouched


def settings_in_all_sessions(url: str) -> set[tuple[str, str]]:
    """Return what any session of a pool has set for itself, and the names of what it prepared."""
    query = """
        SELECT name, setting FROM pg_settings WHERE source IN ('client', 'session')
        UNION SELECT 'prepared', name FROM pg_prepared_statements
    """
    found: set[tuple[str, str]] = set()
    with ExitStack() as stack:
        # Each transaction holds a session, so that the next one is given another.
        for _ in range(SESSIONS):
            connection = stack.enter_context(psycopg.connect(url, prepare_threshold=None))
            found |= set(connection.execute(query).fetchall())
    return found
