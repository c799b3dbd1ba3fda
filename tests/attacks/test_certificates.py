"""A broker's certificate is verified, against the authority that `BROKER_CA_FILE` names."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Install
from live.processes import Process, free_port, wait_for
from live.sender import SECRET, Sender
from live.servers import Certificate, RabbitMQ, SecureRedis, Server
from live.service import PYTHON, WITH_BROKER, Setup, account, worker_command
from project import Variant, clean_environment

from attacks.conftest import Run

SECURE: dict[str, Callable[[Path, Certificate], Server]] = {
    "redis": SecureRedis,
    "rabbitmq": lambda folder, certificate: RabbitMQ(folder, certificate=certificate),
}


@pytest.mark.parametrize("setup", WITH_BROKER, ids=str)
def test_events_are_handled_through_a_broker_whose_authority_is_named(
    setup: Setup, run: Run, tmp_path: Path
) -> None:
    certificate = Certificate(tmp_path)
    with SECURE[setup.broker](tmp_path, certificate) as broker:
        settings = {"BROKER_CA_FILE": str(certificate.file)}
        with run(setup, broker=broker.url, settings=settings) as service:
            with Sender(service.ports) as sender:
                time.sleep(1)
            service.seconds_until_handled()
            account(service.database, sender.answers)


@pytest.mark.parametrize("setup", WITH_BROKER, ids=str)
def test_nothing_is_sent_to_a_broker_whose_certificate_nobody_knows(
    setup: Setup, install: Install, tmp_path: Path
) -> None:
    certificate = Certificate(tmp_path)
    with SECURE[setup.broker](tmp_path, certificate) as broker:
        environment = clean_environment(
            ENVIRONMENT="development",
            STRIPE_WEBHOOK_SECRET=SECRET,
            DATABASE_URL=f"sqlite:///{tmp_path / 'inbox.db'}",
            POLL_INTERVAL_SECONDS="0.2",
            BROKER_URL=broker.url,
        )
        project = install(Variant("stripe", setup.processing))
        port = free_port()
        serve = f"{PYTHON}uvicorn app.main:app --port {port}"
        with (
            Process(project.path, serve, environment) as server,
            Process(project.path, worker_command(setup.processing), environment) as worker,
        ):
            server.wait_for_port(port)
            send = f"{PYTHON}app send invoice.paid --url http://127.0.0.1:{port}"
            assert "200" in project.run(send, 60, **environment)  # it waits in the inbox
            wait_for(lambda: "nothing dispatched" in server.printed, "the dispatcher to fail")
            wait_for(lambda: "certificate" in worker.printed.lower(), "the worker to fail")
            server.check()
            worker.check()
