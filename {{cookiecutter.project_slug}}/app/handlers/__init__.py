"""The handlers: each module here handles the events of the provider it is named after."""

import pkgutil
from collections.abc import Awaitable, Callable
from functools import cache
from importlib import import_module

from app.events import Event

Handler = Callable[[Event], Awaitable[None]]


@cache
def load() -> dict[str, Handler]:
    """Import every handler; the keys are the providers' names as they stand in the URL."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return {n.replace("_", "-"): import_module(f"{__name__}.{n}").handle for n in names}
