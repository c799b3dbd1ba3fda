"""The providers: each module here serves `/webhooks/<its name>`."""

import pkgutil
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

from fastapi import Request

from app.events import Event


class Provider(Protocol):
    """What a module in this package offers."""

    async def verify(self, request: Request) -> Event:
        """A FastAPI dependency: the event, once the sender is proved to be who it should be.

        Raises:
            Unauthorized: the signature is missing, malformed, wrong, stale or from the future.
            Malformed: it is right, but the body is no event.
        """


@cache
def load() -> dict[str, Provider]:
    """Import every provider; the keys are the names as they stand in the URL."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return {n.replace("_", "-"): cast(Any, import_module(f"{__name__}.{n}")) for n in names}
