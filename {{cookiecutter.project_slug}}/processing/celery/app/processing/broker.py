"""The broker: where it is, what the queue in it is called, and how to connect to it."""

import ssl
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from celery import Celery
from kombu.connection import Connection
from pydantic import Field, FilePath

from app.settings import Settings, load

BROKER_SECONDS = 5  # for the broker to connect, and to answer
FOLDER = "filesystem://"
USABLE = "redis://:password@host:6379 or amqp://user:password@host"


def project_name() -> str:
    """Return the name of this project."""
    text = resources.files("app").joinpath("project.toml").read_text("utf-8")
    name: str = tomllib.loads(text)["name"]
    return name


class BrokerSettings(Settings):
    """Where messages go."""

    broker_url: str = Field(default="", repr=False)
    """Redis, RabbitMQ or, for development, a folder."""
    broker_ca_file: FilePath | None = None
    """The CA that signed the broker's certificate, unless the system trusts it."""
    queue_name: Annotated[str, Field(pattern=r"^[\w.-]+$")] = Field(default_factory=project_name)
    """The name of what belongs to this service in the broker."""


def parse_url(url: str, environment: str) -> str:
    """Return the URL of the broker to use.

    Raises:
        SystemExit: the URL cannot be used; the message says why, and what to write instead.
    """
    if not url and environment == "production":
        raise SystemExit(f"BROKER_URL is not set: use {USABLE}")
    if not url:
        return FOLDER + ".broker"
    if url.startswith(FOLDER):
        if environment == "production":
            raise SystemExit(f"BROKER_URL is a folder, for development only: use {USABLE}")
        return url
    for each in url.split(";"):  # several brokers: when one fails, the next one is tried
        _check(each)
    return url


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = bool(parts.scheme and parts.netloc and not parts.fragment)
        port = parts.port
    except ValueError:
        valid = False
    if not valid or port == 0:
        raise SystemExit(
            f"BROKER_URL is not a valid URL: use {USABLE}."
            " In a password, write %23 for #, %2F for / and %40 for @"
        )
    if parts.scheme not in ("redis", "rediss", "amqp", "amqps"):
        raise SystemExit(f"BROKER_URL names {parts.scheme}: use {USABLE}")
    database = parts.path.strip("/")
    if parts.scheme.startswith("redis") and database and not database.isdecimal():
        raise SystemExit("BROKER_URL: Redis has numbers for databases: use redis://host:6379/0")
    try:
        Connection(url)  # type: ignore[no-untyped-call]
    except (KeyError, TypeError, ValueError) as error:
        raise SystemExit(f"BROKER_URL has an option that cannot be used: {error}") from None


settings = load(BrokerSettings)
url = parse_url(settings.broker_url, settings.environment)

ATTEMPT = f"{settings.queue_name}.attempt"
"""The name of the task that attempts an event."""


def make_celery() -> Celery:
    """Return a Celery application. It connects to the broker when it first has to."""
    celery = Celery("app", broker=url, set_as_current=False)
    name = settings.queue_name
    celery.conf.update(
        task_default_queue=name,
        control_exchange=name,
        event_exchange=f"{name}.events",
        event_queue_prefix=f"{name}.events",
        accept_content=["json"],
        task_serializer="json",
        broker_connection_timeout=BROKER_SECONDS,
        broker_use_ssl=_tls_options(),
        broker_transport_options=_transport_options(),
    )
    if url.startswith(FOLDER):
        celery.conf.broker_url = FOLDER + "localhost"  # without a host, Celery would warn
    return celery


def _transport_options() -> dict[str, object]:
    if url.startswith(FOLDER):
        folder = Path(url.removeprefix(FOLDER)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return {
            "data_folder_in": str(folder),
            "data_folder_out": str(folder),
            "control_folder": str(folder / "control"),
            "polling_interval": 0.1,
        }
    if url.startswith("amqp"):
        return {
            "connect_timeout": BROKER_SECONDS,
            "read_timeout": BROKER_SECONDS,
            "write_timeout": BROKER_SECONDS,
            "confirm_publish": True,  # otherwise a dead connection would swallow a message
        }
    return {
        "ack_emulation": False,  # the inbox repeats what a worker has lost
        "global_keyprefix": f"{settings.queue_name}:",
        "socket_connect_timeout": BROKER_SECONDS,
        "socket_timeout": BROKER_SECONDS,
    }


def _tls_options() -> dict[str, object] | None:
    """Return how to verify the broker's certificate. Without these, Celery verifies less."""
    ca_file = str(settings.broker_ca_file) if settings.broker_ca_file else None
    if url.startswith("rediss"):
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": ca_file}
    if url.startswith("amqps"):
        return {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": ca_file, "server_hostname": None}
    return None
