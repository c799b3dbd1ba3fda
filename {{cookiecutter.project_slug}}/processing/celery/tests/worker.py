"""A real Celery worker, and a broker that is a folder unless TEST_BROKER_URL names a real one."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_PROCESS = False
PRODUCTION = {"BROKER_URL": "redis://localhost:1"}  # the settings that production wants besides


def environment(folder: Path) -> dict[str, str]:
    """Return the settings of the broker."""
    return {"BROKER_URL": os.environ.get("TEST_BROKER_URL") or f"filesystem://{folder / 'broker'}"}


@contextmanager
def running(module: str = "app.queue") -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker for as long as the block lasts."""
    from tests.support import kill, python

    process = python(
        "-m", "celery", "-A", f"{module}:celery", "worker", "--hostname", f"{uuid.uuid4()}@test"
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            kill(process)  # being asked to, it would take seconds
