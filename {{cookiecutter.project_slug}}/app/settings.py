"""The settings, from the environment and from `.env`: `max_attempts` is `MAX_ATTEMPTS`."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeVar

from dotenv import dotenv_values
from pydantic import Field, PositiveInt, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

ENV_FILE = ".env"

# Values that people leave in place when they copy an example.
PLACEHOLDER = re.compile(
    r"""
      replace | change.?(me|it) | placeholder | your[-_ ] | example | \.\.\.
    | ^<.*>$ | ^\$?\{.*\}$
    | ^(whsec_)?([x*.]*|none|null|password|secret|tbd|test|todo)$
    """,
    re.IGNORECASE | re.VERBOSE,
)

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings that depend on neither the provider nor the broker."""

    model_config = SettingsConfigDict(env_file=ENV_FILE, env_ignore_empty=True, extra="ignore")

    environment: Literal["development", "production"] = "production"
    database_url: str = Field(default="sqlite:///inbox.db", repr=False)

    max_body_bytes: PositiveInt = 1024 * 1024
    body_timeout_seconds: Seconds = 10
    ack_deadline_seconds: Seconds = 3
    """How long a commit may take before the sender is told to try again. Many wait for 5 s."""

    concurrency: PositiveInt = 16
    """How many events one process handles at a time."""
    handler_timeout_seconds: Seconds = 60
    max_attempts: PositiveInt = 10
    retry_base_seconds: Seconds = 5
    """The wait after the first failed attempt. It doubles with each further one."""
    retry_cap_seconds: Seconds = 3600

    poll_interval_seconds: Seconds = 1
    """How often to look for events that have become due again."""
    requeue_after_seconds: Seconds = 30
    """How long an event waits in the queue for a worker before it is dispatched again."""
    prune_after_days: Days | None = None
    """When payloads of done events are deleted. None: only `python -m app prune` deletes them."""
    grace_period_seconds: Seconds = 20
    """How long handlers may keep running at shutdown."""


S = TypeVar("S", bound=BaseSettings)


def load(kind: type[S]) -> S:
    """Read settings of any class from the environment and from `.env`.

    Raises:
        SystemExit: a variable has no usable value; the message names it.
    """
    try:
        return kind()
    except ValidationError as error:
        problems = error.errors(include_input=False, include_context=False)
        lines = [f"{_variable_name(kind, each['loc'])}: {each['msg']}" for each in problems]
        raise SystemExit("; ".join(lines)) from None


def _variable_name(kind: type[BaseSettings], location: tuple[int | str, ...]) -> str:
    prefix = kind.model_config.get("env_prefix") or ""
    return (prefix + ".".join(str(part) for part in location)).upper()


settings = load(Settings)


@dataclass(frozen=True)
class Secrets:
    """The secrets in one variable: several while they are being rotated."""

    variable: str
    values: tuple[str, ...] = field(repr=False)
    remedy: str

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def problem(self) -> str:
        """Return why these cannot be used in production, with the remedy; "" if they can."""
        if not self.values:
            return f"{self.variable} is not set: {self.remedy}"
        if not all(value.isprintable() for value in self.values):
            return f"{self.variable} has characters that do not print: {self.remedy}"
        if any(PLACEHOLDER.search(value) for value in self.values):
            return f"{self.variable} is still a placeholder: {self.remedy}"
        return ""


def read_secrets(variable: str, remedy: str = "ask the sender for the secret") -> Secrets:
    """Return the comma-separated secrets of a variable, from the environment or from `.env`."""
    text = os.environ.get(variable) or dotenv_values(ENV_FILE).get(variable) or ""
    parts = [part.strip() for part in text.split(",")]
    return Secrets(variable, tuple(part for part in parts if part), remedy)
