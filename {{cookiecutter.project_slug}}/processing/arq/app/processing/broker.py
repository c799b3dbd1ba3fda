"""The broker: where Redis is, what the queue in it is called, and how to connect to it."""

import asyncio
import json
import logging
import tomllib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import resources
from typing import Annotated, Any, TypeVar

from arq import ArqRedis, create_pool
from arq.connections import RedisSettings
from pydantic import Field, FilePath
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisDown
from redis.exceptions import OutOfMemoryError, ReadOnlyError, TimeoutError, WatchError

from app.settings import Settings, load

USABLE = "redis://:password@host:6379"
CONNECT_SECONDS = 5
RETRY_SECONDS = 1
FOR_EVER = 1_000_000_000  # attempts to connect

T = TypeVar("T")

logger = logging.getLogger(__name__)


def project_name() -> str:
    """Return the name of this project."""
    text = resources.files("app").joinpath("project.toml").read_text("utf-8")
    name: str = tomllib.loads(text)["name"]
    return name


class BrokerSettings(Settings):
    """Where messages go."""

    broker_url: str = Field(default="", repr=False)
    broker_ca_file: FilePath | None = None
    """The CA that signed the certificate of Redis, unless the system trusts it."""
    queue_name: Annotated[str, Field(pattern=r"^[\w.-]+$")] = Field(default_factory=project_name)
    """The name of what belongs to this service in Redis."""


settings = load(BrokerSettings)


def redis_settings() -> RedisSettings:
    """Return how to connect to the Redis of `BROKER_URL`.

    Raises:
        SystemExit: the URL cannot be used; the message says why, and what to write instead.
    """
    if not settings.broker_url:
        raise SystemExit(f"BROKER_URL is not set: use {USABLE}")
    try:
        options: dict[str, Any] = dict(parse_url(settings.broker_url))
    except ValueError as error:
        raise SystemExit(f"BROKER_URL is not a valid URL: {error}. Use {USABLE}") from None
    kind = options.pop("connection_class", None)
    used = ("host", "port", "db", "username", "password", "path")
    unknown = ", ".join(name for name in options if name not in used)
    if unknown:
        raise SystemExit(f"BROKER_URL has options that arq does not know: remove {unknown}")
    return RedisSettings(
        host=options.get("host", "localhost"),
        port=options.get("port", 6379),
        database=options.get("db", 0),
        username=options.get("username"),
        password=options.get("password"),
        unix_socket_path=options.get("path") if kind is UnixDomainSocketConnection else None,
        ssl=kind is SSLConnection,
        ssl_check_hostname=True,
        ssl_ca_certs=str(settings.broker_ca_file) if settings.broker_ca_file else None,
        conn_timeout=CONNECT_SECONDS,
    )


async def connect() -> ArqRedis:
    """Return a connection for publishing. It fails at once, because the dispatcher tries again."""
    once = redis_settings()
    once.conn_retries = 0
    return await create_pool(
        once,
        default_queue_name=settings.queue_name,
        job_serializer=to_json,
        job_deserializer=json.loads,
    )


def for_workers() -> RedisSettings:
    """Return how workers connect: they try for ever, and again when the connection is lost."""
    patient = redis_settings()
    patient.conn_retries = FOR_EVER
    patient.conn_retry_delay = RETRY_SECONDS
    patient.retry_on_error = [OSError, RedisDown, TimeoutError, ReadOnlyError, OutOfMemoryError]
    patient.retry = PatientRetry(ConstantBackoff(RETRY_SECONDS), FOR_EVER)
    return patient


class PatientRetry(Retry):
    """Tries again even if the connection was lost between WATCH and EXEC.

    redis-py raises `WatchError` then, which would end arq's worker. Nothing needs to be watched
    here: the inbox decides which of two workers may attempt an event.
    """

    async def call_with_retry(
        self,
        do: Callable[[], Awaitable[T]],
        fail: Callable[..., Any],
        *arguments: Any,
        **options: Any,
    ) -> T:
        """Return what `do` returns; connect again as often as it takes."""

        async def log_and_fail(error: Exception, *others: Any) -> None:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError  # the worker is ending: do not connect again
            logger.error("BROKER_URL: %s; trying again", error)
            with suppress(WatchError):
                await fail(error, *others)

        return await super().call_with_retry(do, log_and_fail, *arguments, **options)


def to_json(message: dict[str, Any]) -> bytes:
    """Serialize a message for Redis. arq's default, pickle, would execute what it reads."""
    return json.dumps(message).encode()
