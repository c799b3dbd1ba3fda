"""Processes that a test starts, watches, and ends in every way there is."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

# Where the system has this command, an aborted run leaves no process behind.
WITH_ITS_PARENT = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
PATIENCE = 120  # seconds: long for a busy machine, and no test waits that long when all is well


def wait_for(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Wait until a condition holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Tell whether somebody accepts connections to a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """Return a port where nobody listens.

    Systems give clients ports from 32768 on, so no client takes this one while its server is away.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Process:
    """A long-running command, with all the processes it starts."""

    def __init__(self, folder: Path, command: str, environment: Mapping[str, str]) -> None:
        self.command = command
        self._log = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.log")
        self._is_over = False
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*WITH_ITS_PARENT, *command.split()],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def printed(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def resident_megabytes(self) -> float:
        """The memory of the process that was started, without those it started."""
        asked = ["ps", "-o", "rss=", "-p", str(self._process.pid)]
        done = subprocess.run(asked, capture_output=True, check=True, encoding="ascii")
        return round(int(done.stdout) / 1000, 1)

    def check(self) -> None:
        """Fail if it has ended by itself, and show what it printed."""
        status = self._process.poll()
        assert status is None, f"{self.command} ended with {status}:\n{self.printed}"

    def wait_for_port(self, port: int) -> None:
        def answers() -> bool:
            self.check()
            return listens(port)

        wait_for(answers, f"{self.command} to listen on port {port}")

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to it and to all processes it has started."""
        os.killpg(self._process.pid, number)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal, as a supervisor does, wait for the end, and kill what is left."""
        if self._is_over:  # another process may have its id by now
            return
        self._process.send_signal(how)
        self._process.wait(PATIENCE)
        with suppress(ProcessLookupError):
            self.signal_all(signal.SIGKILL)
        self._is_over = True

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
