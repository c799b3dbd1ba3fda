"""A real arq worker, and a Redis that lives in this process unless TEST_BROKER_URL names one."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fakeredis import TcpFakeServer

IN_PROCESS = False
PRODUCTION = {"BROKER_URL": "redis://localhost:1"}  # the settings that production wants besides
COMMAND = ["-m", "arq"]
# The stand-in for Redis does not know INFO, which arq would write into its log at the start.
COMMAND_WITHOUT_INFO = [
    "-c",
    "import arq.cli, arq.worker, asyncio;"
    "arq.worker.log_redis_info = lambda *_: asyncio.sleep(0);"
    "arq.cli.cli()",
]


def environment(folder: Path) -> dict[str, str]:
    """Return the settings of the broker, started if need be."""
    if url := os.environ.get("TEST_BROKER_URL"):
        return {"BROKER_URL": url}
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return {"BROKER_URL": f"redis://127.0.0.1:{server.server_address[1]}"}


@contextmanager
def running(module: str = "app.queue") -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker for as long as the block lasts."""
    from tests.support import end, python

    command = COMMAND if "TEST_BROKER_URL" in os.environ else COMMAND_WITHOUT_INFO
    process = python(*command, f"{module}.WorkerSettings")
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process)
