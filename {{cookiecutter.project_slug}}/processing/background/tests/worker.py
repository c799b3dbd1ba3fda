"""The worker that these tests need: none, the service handles its events itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_PROCESS = True
PRODUCTION: dict[str, str] = {}  # the settings that production wants besides


def environment(folder: Path) -> dict[str, str]:
    """Return the settings of the broker: there is none."""
    return {}


@contextmanager
def running(module: str = "app.queue") -> Iterator[None]:
    """Run a worker for as long as the block lasts."""
    yield
