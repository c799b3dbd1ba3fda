"""An endpoint: where webhooks of one sender arrive, who verifies them, and who handles them."""

import inspect
import math
import pkgutil
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from importlib import import_module
from typing import Any

from fastapi import params

from app import handlers
from app.events import Delivery, Event
from app.webhooks.refusals import InvalidSignature

Verify = Callable[..., Awaitable[Delivery]]
Handler = Callable[[Event], Coroutine[Any, Any, None]]


async def nobody() -> Delivery:
    """Accept no request. An endpoint with this verifier has no path either."""
    raise InvalidSignature("nobody may send to this endpoint")


@dataclass(frozen=True)
class Endpoint:
    """One line of `app/endpoints.py`.

    Args:
        name: Its path is `/webhooks/<name>`. Stored events carry the name, so keep it.
        verify: A FastAPI dependency that returns the `Delivery` of an authentic request: a
            verifier of `app/webhooks/`, or a function of your own. Without one there is no path,
            only events of the service's own, by `event.then()`.
        dependencies: Further dependencies of its route, such as a guard: `[Depends(guard)]`.
        handler: An `async def` function that is given each `Event`.
        max_attempts, retry_base_seconds, retry_cap_seconds, handler_timeout_seconds: As in
            `app/settings.py`, for the events of this endpoint. None: what the settings say.
        concurrency: How many of its events are handled at a time, in all processes together.
            None: there is no limit but that of each process, `CONCURRENCY`.

    Raises:
        SystemExit: one of them cannot be used.
    """

    name: str
    _: KW_ONLY
    verify: Verify = nobody
    dependencies: Sequence[params.Depends] = ()
    handler: Handler
    max_attempts: int | None = None
    retry_base_seconds: float | None = None
    retry_cap_seconds: float | None = None
    handler_timeout_seconds: float | None = None
    concurrency: int | None = None

    def __post_init__(self) -> None:
        where = f"app/endpoints.py: endpoint {self.name!r}"
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.name):
            raise SystemExit(f"{where}: use lower-case letters, digits and hyphens for the name")
        if not callable(self.verify):
            raise SystemExit(f"{where}: verify must be a verifier or a dependency function")
        if not inspect.iscoroutinefunction(self.handler):
            raise SystemExit(f"{where}: its handler must be a function made with `async def`")
        for name in ("max_attempts", "concurrency"):
            if not _is_count(getattr(self, name)):
                raise SystemExit(f"{where}: {name} must be a whole number from 1 up")
        for name in ("retry_base_seconds", "retry_cap_seconds", "handler_timeout_seconds"):
            if not _is_seconds(getattr(self, name)):
                raise SystemExit(f"{where}: {name} must be a number of seconds above 0")


def _is_count(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_seconds(value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value < math.inf


Endpoints = Mapping[str, Endpoint]


def by_name(endpoints: Sequence[Endpoint]) -> Endpoints:
    """Return the endpoints by their names.

    Raises:
        SystemExit: two of them have the same name.
    """
    names = [endpoint.name for endpoint in endpoints]
    for name in names:
        if names.count(name) > 1:
            raise SystemExit(f"app/endpoints.py: two endpoints are called {name!r}: rename one")
    return dict(zip(names, endpoints, strict=True))


def check_handlers(endpoints: Sequence[Endpoint]) -> None:
    """Refuse a handler that no endpoint uses: its events would never arrive.

    Raises:
        SystemExit: a module in `app/handlers/` has a `handle` that `app/endpoints.py` leaves out.
    """
    used = [endpoint.handler for endpoint in endpoints]
    for module in pkgutil.iter_modules(handlers.__path__):
        handle = getattr(import_module(f"app.handlers.{module.name}"), "handle", None)
        if inspect.iscoroutinefunction(handle) and handle not in used:
            raise SystemExit(
                f"app/handlers/{module.name}.py has a handler that no endpoint uses:"
                " list it in app/endpoints.py, or give the function another name"
            )
