"""Secrets and personal data are in the database, and nowhere else: no log, answer or metric."""

import http.client
import json
import re
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from conftest import Install
from live.processes import PATIENCE, Process, free_port, wait_for
from live.sender import PATH, signature
from live.servers import PostgreSQL
from live.service import EACH_PROCESSING, PYTHON, WITH_BROKER, Setup, worker_command
from project import Variant, clean_environment

from attacks.conftest import Run

# What workers print when they cannot connect.
FAILURE = re.compile("error|trying again", re.IGNORECASE)

# Python runs this before anything else: metrics go to a file.
WATCH = """
import os
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

out = open(os.environ["METRICS"], "a")
reader = PeriodicExportingMetricReader(ConsoleMetricExporter(out), export_interval_millis=300)
metrics.set_meter_provider(MeterProvider([reader]))
"""

# Fails in ways that quote what it was given.
HANDLER = """
    match event.type:
        case "quoted":
            raise ValueError(f"cannot handle {event.payload!r} of {event!r}")
        case "refused":
            async with event.transaction() as db:
                await db.execute(sa.text("INSERT INTO nowhere VALUES (:name)"), event.data)
        case "nested":
            try:
                raise KeyError(event.data["name"])
            except KeyError as error:
                raise RuntimeError(event.data["email"]) from error
"""


def canary(what: str) -> str:
    return f"canary-{what}-{uuid.uuid4().hex[:12]}"


SECRETS = {name: canary(name) for name in ("signing", "rotated", "database", "broker")}
PERSONAL = {
    "name": canary("name"),
    "email": f"{canary('email')}@example.org",
    "card": "4242424242424242",
}
TOKEN, SESSION, AGENT, ADDRESS = (canary(each) for each in ("token", "session", "agent", "address"))
HEADERS = {
    "Authorization": f"Bearer {TOKEN}",
    "Cookie": f"session={SESSION}",
    "User-Agent": AGENT,
    "X-Real-IP": ADDRESS,
}
CANARIES = [*SECRETS.values(), *PERSONAL.values(), TOKEN, SESSION, AGENT, ADDRESS]


def leaks(text: str) -> list[str]:
    return [value for value in CANARIES if value in text]


class Sender:
    """Sends to a service, and keeps all it answers."""

    def __init__(self, port: int) -> None:
        self.heard = ""
        self._port = port

    def send(
        self,
        event_type: str = "done",
        *,
        body: bytes | None = None,
        secret: str = SECRETS["signing"],
        method: str = "POST",
        path: str = PATH,
    ) -> int:
        event = {"id": f"evt_{uuid.uuid4().hex}", "type": event_type} | PERSONAL
        body = json.dumps(event).encode() if body is None else body
        signed = {"Stripe-Signature": signature(body, secret)} if secret else {}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        connection.request(method, path, body, HEADERS | signed)
        answer = connection.getresponse()
        self.heard += f"{answer.status} {answer.headers} {answer.read().decode()}\n"
        connection.close()
        return answer.status


@pytest.fixture
def watcher(tmp_path: Path, install: Install) -> Path:
    """A folder with what sends the metrics of any process to a file."""
    folder = tmp_path / "watcher"
    project = install(Variant("stripe", "background"))
    project.run(f"uv pip install --quiet --target {folder} opentelemetry-sdk")
    (folder / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    return folder


@pytest.mark.parametrize("setup", EACH_PROCESSING, ids=str)
def test_secrets_and_personal_data_show_up_in_no_log_answer_or_metric(
    setup: Setup, run: Run, watcher: Path, tmp_path: Path
) -> None:
    metrics = tmp_path / "metrics"
    settings = {
        "STRIPE_WEBHOOK_SECRET": f"{SECRETS['signing']},{SECRETS['rotated']}",
        "MAX_ATTEMPTS": "2",
        "MAX_BODY_BYTES": "50000",
        "METRICS": str(metrics),
        "PYTHONPATH": str(watcher),
    }
    with PostgreSQL() as store:
        settings["DATABASE_URL"] = store.url.replace("@", f":{SECRETS['database']}@")
        with run(setup, HANDLER, database=store.database, settings=settings) as service:
            sender = Sender(service.port)
            whole = json.dumps(PERSONAL).encode()
            for event_type in ("done", "quoted", "refused", "nested"):
                assert sender.send(event_type) == 200
            assert sender.send(secret=SECRETS["rotated"]) == 200
            assert sender.send(secret=canary("wrong")) == 401
            assert sender.send(secret="") == 401
            assert sender.send(body=whole) == 400  # neither id nor type
            assert sender.send(body=whole[:-1]) == 400
            assert sender.send(body=whole * 1000) == 413
            assert sender.send(method="PUT") == 405
            assert sender.send(path="/nowhere") == 404
            database = service.database
            wait_for(lambda: database.count("state = 'dead'") == 3, "three events to be dead")
            wait_for(lambda: database.count("state = 'done'") == 2, "two events to be done")

            store.stop()
            assert [sender.send(each) for each in ("done", "quoted")] == [503] * 2
            time.sleep(1)
            store.start()
            assert sender.send("quoted") == 200
            wait_for(lambda: database.count("state = 'dead'") == 4, "the last event to be dead")
            time.sleep(0.5)  # for the metrics
            service.end()
            printed = service.printed
            [(errors,)] = database.rows("SELECT string_agg(error, ' ') FROM webhook_events")
    measured = metrics.read_text(encoding="utf-8")
    # All of it was there to be leaked, and told where it is to be told.
    assert {PERSONAL["name"], PERSONAL["email"]} <= set(leaks(str(errors)))
    for word in ("ValueError", "RuntimeError", "ProgrammingError", "did not commit", "refused"):
        assert word in printed
    for name in ("webhooks.received", "webhooks.refused", "events.attempts"):
        assert name in measured
    assert leaks(sender.heard) == leaks(printed) == leaks(measured) == []


@pytest.mark.parametrize("setup", WITH_BROKER, ids=str)
def test_the_password_of_a_broker_that_is_away_shows_up_in_no_log(
    setup: Setup, install: Install, tmp_path: Path
) -> None:
    scheme = {"redis": "redis", "rabbitmq": "amqp"}[setup.broker]
    environment = clean_environment(
        ENVIRONMENT="development",
        DATABASE_URL=f"sqlite:///{tmp_path / 'inbox.db'}",
        STRIPE_WEBHOOK_SECRET=SECRETS["signing"],
        POLL_INTERVAL_SECONDS="0.2",
        BROKER_URL=f"{scheme}://user:{SECRETS['broker']}@127.0.0.1:1",
    )
    project = install(Variant("stripe", setup.processing))
    port = free_port()
    serve = f"{PYTHON}uvicorn app.main:app --port {port}"
    with (
        Process(project.path, serve, environment) as server,
        Process(project.path, worker_command(setup.processing), environment) as worker,
    ):
        server.wait_for_port(port)
        assert Sender(port).send() == 200
        wait_for(lambda: "nothing dispatched" in server.printed, "the dispatcher to fail")
        wait_for(lambda: bool(FAILURE.search(worker.printed)), "the worker to fail")
        time.sleep(1)
        server.check()
        assert leaks(server.printed + worker.printed) == []


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:{}@127.0.0.1/inbox",
        "postgresql//user:{}@127.0.0.1/inbox",
        "postgresql://user:{}@127.0.0.1:port/inbox",
        "postgresql://user:{}@127.0.0.1/inbox?no_such_option=1",
        "{}",
    ],
)
def test_a_database_url_that_is_wrong_is_not_quoted(install: Install, url: str) -> None:
    project = install(Variant("stripe", "background"))
    done = subprocess.run(
        [project.path / ".venv/bin/python", "-c", "import app.main"],
        cwd=project.path,
        env=clean_environment(
            DATABASE_URL=url.format(SECRETS["database"]), STRIPE_WEBHOOK_SECRET=SECRETS["signing"]
        ),
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 1
    assert printed.startswith("DATABASE_URL")
    assert printed.count("\n") == 1
    assert leaks(printed) == []
