"""Every setting, read from the environment and from `.env`: `max_attempts` is `MAX_ATTEMPTS`."""

import logging
import re
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# What people leave standing when they fill in an example.
PLACEHOLDER = re.compile(
    r"(?i)replace|change.?(me|it)|placeholder|your[-_ ]|example|\.\.\.|^<.*>$|^\$?\{.*\}$"
    r"|^(whsec_)?([x*.]*|none|null|password|secret|tbd|test|todo)$"
)

logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
logger = logging.getLogger(__name__)


def _split(raw: object) -> object:
    return tuple(filter(None, map(str.strip, raw.split(",")))) if isinstance(raw, str) else raw


Secrets = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), Field(repr=False)]
"""Comma-separated webhook secrets: while they rotate, the old one and the new one are accepted."""


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """What does not depend on the provider or the queue."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    environment: Literal["development", "production"] = "production"
    database_url: str = Field(default="sqlite:///inbox.db", repr=False)
    max_body_bytes: PositiveInt = 1024 * 1024
    body_timeout_seconds: Seconds = 10
    ack_deadline_seconds: Seconds = 5
    concurrency: PositiveInt = 16
    handler_timeout_seconds: Seconds = 60
    handover_seconds: Seconds = 30
    max_attempts: PositiveInt = 10
    retry_base_seconds: Seconds = 5
    retry_cap_seconds: Seconds = 3600
    sweep_seconds: Seconds = 1
    drain_seconds: Seconds = 20


S = TypeVar("S", bound=Settings)


def load(kind: type[S]) -> S:
    """Read settings, or raise `SystemExit` naming the variables that have no usable value."""
    try:
        return kind()
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_context=False)
        lines = (f"{'.'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in wrong)
        raise SystemExit("; ".join(lines)) from None


settings = load(Settings)


def require(variable: str, secrets: tuple[str, ...], remedy: str) -> tuple[str, ...]:
    """Return the secrets of a variable; in production, raise `SystemExit` if they are not real."""
    problem = "" if secrets else "is not set"
    if not all(map(str.isprintable, secrets)):
        problem = "is not text"
    if any(PLACEHOLDER.search(secret) for secret in secrets):
        problem = "is still a placeholder"
    if problem and settings.environment == "production":
        raise SystemExit(f"{variable} {problem}: {remedy}")
    if problem:
        logger.warning("%s %s: %s", variable, problem, remedy)
    return secrets
