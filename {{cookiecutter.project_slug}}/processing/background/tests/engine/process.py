"""Python processes that tests start, in their own environment."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 20  # seconds: for a process to start or end, on a machine that is busy
ROOT = Path(__file__).parents[2]


@contextmanager
def python(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python for as long as the block lasts."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def server(app: str = "tests.engine.service:app", **environment: str) -> Iterator["Server"]:
    """Run a service for as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with python("-m", "uvicorn", app, "--port", str(port), **environment) as process:
        server = Server(process, port)
        server.wait_for(server.listens)
        yield server


class Server:
    """A service behind a real socket."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def listens(self) -> bool:
        """Tell whether it has started."""
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; fail with the output of the process if it ends first."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(self.process.communicate()[0])
            time.sleep(0.01)
