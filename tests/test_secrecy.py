"""Secrets and personal data are in the database, and nowhere else: no log, answer or metric."""

import http.client
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import Install
from hostile import sign
from live import (
    BROKERS,
    PATIENCE,
    Database,
    Line,
    Process,
    Server,
    postgresql_database,
    wait_for,
    worker,
)
from project import CHOICES, Project, Variant, clean_environment

# Starts as the service does, with its metrics in a file and handlers that quote what they get.
WATCHED = """
import os

import sqlalchemy as sa
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

out = open(os.environ["METRICS"], "a")
reader = PeriodicExportingMetricReader(ConsoleMetricExporter(out), export_interval_millis=300)
metrics.set_meter_provider(MeterProvider([reader]))

from app import handlers
from app.main import app as app
from app.queue import *


async def handle(event):
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


handlers.load()["stripe"] = handle
"""


def canary(what: str) -> str:
    return f"canary-{what}-{uuid.uuid4().hex[:12]}"


SECRETS = {name: canary(name) for name in ("signing", "rotated", "database", "broker")}
PERSONAL = {
    "name": canary("name"),
    "email": f"{canary('email')}@example.org",
    "card": "4242424242424242",
}
HEADERS = {"Authorization": f"Bearer {canary('bearer')}", "Cookie": f"session={canary('session')}"}
HEADERS |= {"User-Agent": canary("agent"), "X-Real-IP": canary("address")}


def leaks(text: str) -> list[str]:
    values = [*SECRETS.values(), *PERSONAL.values()]
    values += [value.removeprefix("Bearer ").removeprefix("session=") for value in HEADERS.values()]
    return [value for value in values if value in text]


@pytest.fixture
def watched(tmp_path: Path, install: Install, processing: str) -> Path:
    """A folder with an OpenTelemetry SDK and the service that writes its metrics to a file."""
    folder = tmp_path / "watched"
    project = install(Variant("stripe", processing))
    project.run(f"uv pip install --quiet --target {folder} opentelemetry-sdk")
    (folder / "watched.py").write_text(WATCHED, encoding="utf-8")
    return folder


class Sender:
    """Sends to a service, and keeps all it answers."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.heard = ""

    def send(
        self, type: str, *, body: bytes | None = None, secret: str = SECRETS["signing"],
        method: str = "POST", path: str = "/webhooks/stripe",
    ) -> int:  # fmt: skip
        event = {"id": f"evt_{uuid.uuid4().hex}", "type": type} | PERSONAL
        body = json.dumps(event).encode() if body is None else body
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
        signature = {"Stripe-Signature": sign(body, secret)} if secret else {}
        connection.request(method, path, body, HEADERS | signature)
        answer = connection.getresponse()
        self.heard += f"{answer.status} {answer.headers} {answer.read().decode()}\n"
        connection.close()
        return answer.status


@pytest.fixture
def line(tmp_path: Path) -> Iterator[tuple[Line, Database]]:
    """A line to a database that is logged in to with a password."""
    with postgresql_database(tmp_path) as database:
        parts = urlsplit(database.url)
        if parts.password:
            pytest.skip("the server wants a password of its own")
        login, _, host = parts.netloc.rpartition("@")
        login = f"{login or 'postgres'}:{SECRETS['database']}"
        line = Line(parts._replace(netloc=f"{login}@{host}").geturl())
        yield line, database
        line.cut()


@pytest.mark.parametrize("processing", CHOICES["processing"])
def test_secrets_and_personal_data_show_up_in_no_log_answer_or_metric(
    install: Install, watched: Path, line: tuple[Line, Database], processing: str, tmp_path: Path
) -> None:
    cable, database = line
    environment = {
        "ENVIRONMENT": "development",
        "DATABASE_URL": cable.url,
        "STRIPE_WEBHOOK_SECRET": f"{SECRETS['signing']},{SECRETS['rotated']}",
        "MAX_ATTEMPTS": "2",
        "RETRY_BASE_SECONDS": "0.1",
        "SWEEP_SECONDS": "0.2",
        "HANDOVER_SECONDS": "1",
        "ACK_DEADLINE_SECONDS": "2",
        "MAX_BODY_BYTES": "50000",
        "PYTHONPATH": str(watched),
        "METRICS": str(tmp_path / "metrics"),
    }
    project = install(Variant("stripe", processing))
    with ExitStack() as stack:
        if processing == "celery":
            environment["BROKER_URL"] = f"filesystem://{tmp_path / 'broker'}"
        elif processing == "arq":
            environment["BROKER_URL"] = stack.enter_context(BROKERS["redis"]())
        server = stack.enter_context(Server(project, environment, "watched:app"))
        processes: list[Process] = [server]
        if processing != "background":
            workers = worker(project, processing, environment, "watched")
            processes.append(stack.enter_context(workers))
        sender = Sender(server)

        whole = json.dumps(PERSONAL).encode()
        assert [sender.send(type) for type in ("done", "quoted", "refused", "nested")] == [200] * 4
        assert sender.send("done", secret=SECRETS["rotated"]) == 200
        assert sender.send("done", secret=canary("wrong")) == 401
        assert sender.send("done", secret="") == 401
        assert sender.send("", body=whole) == 400  # neither id nor type
        assert sender.send("", body=whole[:-1]) == 400
        assert sender.send("", body=whole * 1000) == 413
        assert sender.send("done", method="PUT") == 405
        assert sender.send("done", path="/nowhere") == 404
        wait_for(lambda: database.count("state = 'dead'") == 3, "three events to be dead")
        wait_for(lambda: database.count("state = 'done'") == 2, "two events to be done")

        cable.cut()
        assert [sender.send(type) for type in ("done", "quoted")] == [503] * 2
        time.sleep(1)
        cable.mend()
        assert sender.send("quoted") == 200
        wait_for(lambda: database.count("state = 'dead'") == 4, "the last event to be dead")
        time.sleep(0.5)  # for the metrics
        for process in processes:
            process.end()

        printed = "".join(process.printed for process in processes)
        metrics = (tmp_path / "metrics").read_text(encoding="utf-8")
    # All of it was there to be leaked, and told where it is to be told.
    [(errors,)] = database.rows("SELECT string_agg(error, ' ') FROM inbox")
    assert {PERSONAL["name"], PERSONAL["email"]} <= set(leaks(str(errors)))
    for word in ("ValueError", "RuntimeError", "ProgrammingError", "did not commit", "refused"):
        assert word in printed
    for name in ("webhooks.received", "webhooks.refused", "events.attempts"):
        assert name in metrics
    assert leaks(sender.heard) == leaks(printed) == leaks(metrics) == []


@pytest.mark.parametrize(
    ("processing", "scheme"), [("celery", "redis"), ("celery", "amqp"), ("arq", "redis")]
)
def test_the_password_of_a_broker_that_is_away_shows_up_in_no_log(
    install: Install, processing: str, scheme: str, tmp_path: Path
) -> None:
    environment = {
        "ENVIRONMENT": "development",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'inbox.db'}",
        "STRIPE_WEBHOOK_SECRET": SECRETS["signing"],
        "SWEEP_SECONDS": "0.2",
        "BROKER_URL": f"{scheme}://user:{SECRETS['broker']}@127.0.0.1:1",
    }
    project = install(Variant("stripe", processing))
    with (
        Server(project, environment, "app.main:app") as server,
        worker(project, processing, environment, "app.queue") as workers,
    ):
        assert Sender(server).send("done") == 200
        wait_for(lambda: "nothing handed over" in server.printed, "the relay to fail")
        wait_for(lambda: "127.0.0.1:1" in workers.printed or workers.ended, "the worker to fail")
        time.sleep(1)
        assert leaks(server.printed + workers.printed) == []
        server.check()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:{}@127.0.0.1/inbox",
        "postgresql//user:{}@127.0.0.1/inbox",
        "postgresql://user:{}@127.0.0.1:port/inbox",
        "{}",
    ],
)
def test_a_database_url_that_is_wrong_is_not_quoted(install: Install, url: str) -> None:
    project = install(Variant("stripe", "background"))
    process = start(project, DATABASE_URL=url.format(SECRETS["database"]))
    assert process.count("\n") == 1
    assert process.startswith("DATABASE_URL")
    assert leaks(process) == []


def start(project: Project, **environment: str) -> str:
    """Let a project start that cannot, and return what it prints."""
    done = subprocess.run(
        [project.path / ".venv/bin/python", "-c", "import app.main"],
        cwd=project.path,
        env=clean_environment(**environment, STRIPE_WEBHOOK_SECRET=SECRETS["signing"]),
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    return done.stdout + done.stderr
