"""How the events of an endpoint are attempted: as the endpoint says, or else the settings."""

from dataclasses import dataclass, fields

from app.settings import settings
from app.webhooks.endpoint import Endpoint


@dataclass(frozen=True)
class Policy:
    """How often an event is attempted, how long an attempt may take, and the waits in between."""

    max_attempts: int
    retry_base_seconds: float
    retry_cap_seconds: float
    handler_timeout_seconds: float


NAMES = [field.name for field in fields(Policy)]


def policy_of(endpoint: Endpoint | None) -> Policy:
    """Return the policy for an endpoint's events. None: the endpoint was removed."""
    values = {}
    for name in NAMES:
        own = getattr(endpoint, name, None)
        values[name] = getattr(settings, name) if own is None else own
    return Policy(**values)
