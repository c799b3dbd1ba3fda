"""Generated projects, started for real: they lose nothing and do everything exactly once."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Install
from live import (
    BROKERS,
    DATABASES,
    PORT,
    Database,
    Delivery,
    Line,
    Server,
    Terminal,
    ask,
    deliveries,
    post,
    sqlite_database,
    wait_for,
    worker,
)
from project import CHOICES, Project, Variant, generate, user_config
from services import REDIS

on_port_8000 = pytest.mark.xdist_group("port 8000")

# Nobody has to wait long: a lease of three seconds, and handlers that take a while.
SLOW = {
    "HANDLER_SECONDS": "0.2",
    "HANDLER_TIMEOUT_SECONDS": "1",
    "ACK_DEADLINE_SECONDS": "2",
    "HANDOVER_SECONDS": "1",
    "RETRY_BASE_SECONDS": "0.5",
    "SWEEP_SECONDS": "0.2",
    "CONCURRENCY": "4",
}

# Reads a payload, prints the header with which Stripe's own library would sign it.
SDK = """
import sys
from stripe import WebhookSignature
print(WebhookSignature.generate_signature_header(sys.stdin.read(), sys.argv[1]), end="")
"""


def signed_by_the_sdk(project: Project, id: str) -> Delivery:
    """Return an invoice with thousands of lines, as large as the service accepts it."""
    event = json.loads(project.read("tests/fixtures/stripe/invoice.paid.json"))
    lines = event["data"]["object"]["lines"]["data"]
    event["id"] = id
    limit, line = 1024 * 1024, len(json.dumps(lines[0], indent=2, ensure_ascii=False)) * 2
    lines *= (limit * 9 // 10) // line
    body = json.dumps(event, indent=2, ensure_ascii=False)
    assert limit // 4 < len(body.encode()) < limit
    return Delivery(body, {"Stripe-Signature": ask(project, SDK, "whsec_replace_me", stdin=body)})


@on_port_8000
def test_from_an_empty_folder_to_an_effect_that_survives_a_crash(tmp_path: Path) -> None:
    generated = generate(tmp_path / "empty", "provider=stripe", "processing=background")
    assert generated.returncode == 0, generated.stderr
    project = Project(tmp_path / "empty" / "my-webhooks")
    database = Database(f"sqlite:///{project.path / 'inbox.db'}")

    with Terminal(tmp_path / "empty") as terminal:
        terminal.type("cd my-webhooks && uv run uvicorn app.main:app --reload")
        assert post(PORT, signed_by_the_sdk(project, "evt_first")) == 200
        database.wait_until_all_are_done(1)
        listed = json.loads(terminal.type("uv run python -m app events --json"))
    assert (listed["event_id"], listed["state"]) == ("evt_first", "done")
    assert database.rows("SELECT status, periods_paid FROM subscriptions") == [("active", 1)]

    before_its_effect = SLOW | {"HANDLER_SECONDS": "60"}
    with Server(project, before_its_effect, "tests.slow:app", forked=False) as server:
        assert server.post(signed_by_the_sdk(project, "evt_second")) == [200]
        wait_for(lambda: database.count("attempts > 0") == 2, "the attempt to begin")
        server.kill()
    assert database.count("state = 'pending'") == 1
    assert database.periods_paid() == 1

    with Server(project, {}, "app.main:app", forked=False):
        database.wait_until_all_are_done(2)
    assert database.periods_paid() == 2


def test_what_is_killed_in_a_flood_is_done_exactly_once(install: Install, tmp_path: Path) -> None:
    project = install(Variant("stripe", "background"))
    sent = deliveries(project, "invoice.paid", 40)
    with sqlite_database(tmp_path) as database:
        environment = SLOW | {"DATABASE_URL": database.url}
        for number in range(0, 40, 20):
            with Server(project, environment, "tests.slow:app") as server:
                assert set(server.post(*sent[number : number + 20])) == {200}
                wait_for(lambda: database.count("attempts > 0") > 0, "an attempt to begin")
        with Server(project, environment, "tests.slow:app"):
            database.wait_until_all_are_done(40)
        assert database.periods_paid() == 40


SETUPS = [
    pytest.param(processing, broker, marks=pytest.mark.xdist_group(broker), id=name)
    for processing, broker in (("celery", "redis"), ("celery", "rabbitmq"), ("arq", "redis"))
    for name in [f"{processing} on {broker}"]
]


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with DATABASES[request.param](tmp_path) as database:
        yield database


@pytest.mark.parametrize(("processing", "broker"), SETUPS)
def test_when_workers_are_killed_everything_is_done_exactly_once(
    install: Install, database: Database, processing: str, broker: str
) -> None:
    project = install(Variant("stripe", processing))
    sent = deliveries(project, "invoice.paid", 40)
    with BROKERS[broker]() as url:
        environment = SLOW | {"DATABASE_URL": database.url, "BROKER_URL": url}
        with Server(project, environment, "app.main:app") as server:
            with worker(project, processing, environment, "tests.slow") as workers:
                assert set(server.post(*sent[:30])) == {200}
                wait_for(lambda: database.count("state = 'done'") > 4, "some to be done")
                workers.kill()
            assert database.count("state = 'done'") < 30
            assert set(server.post(*sent[30:])) == {200}
            with worker(project, processing, environment, "tests.slow"):
                database.wait_until_all_are_done(40)
    assert database.periods_paid() == 40


@pytest.mark.parametrize(("processing", "broker"), SETUPS)
def test_while_the_broker_is_away_events_are_acknowledged_and_handled_when_it_is_back(
    install: Install, tmp_path: Path, processing: str, broker: str
) -> None:
    project = install(Variant("stripe", processing))
    sent = deliveries(project, "invoice.paid", 12)
    with sqlite_database(tmp_path) as database, BROKERS[broker]() as url:
        line = Line(url)
        environment = SLOW | {"DATABASE_URL": database.url, "BROKER_URL": line.url}
        with Server(project, environment, "app.main:app") as server:
            workers = worker(project, processing, environment, "tests.slow")
            try:
                assert server.post(sent[0]) == [200]
                database.wait_until_all_are_done(1)

                line.cut()
                for each in sent[1:]:
                    begun = time.monotonic()
                    assert server.post(each) == [200]
                    assert time.monotonic() - begun < 2
                time.sleep(3)
                assert database.count("state = 'done'") == 1
                server.check()

                line.mend()
                if workers.ended:  # as whatever keeps it running would
                    workers = worker(project, processing, environment, "tests.slow")
                database.wait_until_all_are_done(12)
            finally:
                workers.kill()
        line.cut()
        assert database.periods_paid() == 12


@on_port_8000
@pytest.mark.parametrize("processing", CHOICES["processing"])
def test_the_next_steps_can_be_typed_as_they_are_printed(tmp_path: Path, processing: str) -> None:
    if processing == "arq":
        REDIS.require()
    folder = tmp_path / "new"
    generated = generate(folder, "provider=stripe", f"processing={processing}")
    assert generated.returncode == 0, generated.stderr
    _, _, steps = generated.stdout.partition("Next steps")
    blocks = [block for block in steps.split("\n\n") if block.startswith("  ")]
    assert len(blocks) >= 2
    database = Database(f"sqlite:///{folder / 'my-webhooks' / 'inbox.db'}")

    with Terminal(folder, COOKIECUTTER_CONFIG=user_config(folder)) as terminal:
        for block in blocks:
            terminal.folder = folder  # each block has a terminal of its own
            for line in block.splitlines():
                if line.split() != ["uv", "run", "pytest"]:  # test_variants.py does
                    terminal.type(line)
        database.wait_until_all_are_done(1)
    assert blocks[-1].splitlines()[-1].split() == ["uv", "run", "pytest"]
