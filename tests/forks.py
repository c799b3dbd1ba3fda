"""Starts Python modules in forks of one process, which imports the libraries for all of them.

To import those takes longer than most tests, or than a service lives that is killed. A `ForkServer`
runs this in the environment of a generated project. Whoever wants a fork connects to it: a line
says what is to be done, another what came of it, both as JSON. It needs nothing but the standard
library, for the tests of a project import it, too.
"""

import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path

# Nothing of the project, and nothing it lacks.
LIBRARIES = (
    *("aiosqlite", "anyio.pytest_plugin", "anyio._backends._asyncio", "arq.cli", "arq.worker"),
    *("celery.app.amqp", "celery.apps.worker", "celery.backends.base", "celery.bin.celery"),
    *("celery.concurrency.thread", "celery.events", "celery.fixups.django", "celery.signals"),
    *("fakeredis", "fastapi.testclient", "httptools", "httpx2", "kombu.transport.filesystem"),
    *("kombu.transport.pyamqp", "kombu.transport.redis", "opentelemetry.metrics", "psycopg"),
    *("pydantic", "pydantic_settings", "pytest", "pytest_cov.plugin", "stripe", "typer", "uvloop"),
    *("sqlalchemy.ext.asyncio", "sqlalchemy.dialects.postgresql.psycopg", "unittest"),
    *("sqlalchemy.dialects.sqlite.aiosqlite", "uvicorn.main", "uvicorn.protocols.http.auto"),
    *("uvicorn.lifespan.on", "uvicorn.protocols.websockets.auto"),
)

MEASURED = "COVERAGE_PROCESS_CONFIG"  # with which coverage asks to be told of a new process


Wanted = tuple[str, str, str, dict[str, str], list[str]]  # what `become` takes


def serve(listener: socket.socket) -> Wanted:
    """Answer until whoever has started this ends. Each fork returns what it is to do."""
    while True:
        if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
            sys.exit()
        connection, _ = listener.accept()
        with connection, connection.makefile("rw", encoding="utf-8") as lines:
            asked, parameters = json.loads(lines.readline())
            answer = os.fork() if asked == "start" else status(*parameters)
            if answer == 0 and asked == "start":
                wanted: Wanted = tuple(parameters)
                return wanted
            lines.write(f"{json.dumps(answer)}\n")


def status(process: int) -> int | None:
    """Return how a process has ended, less than 0 if by a signal; None if it has not."""
    ended, how = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(how) if ended else None


def become(
    folder: str, output: str, errors: str, environment: dict[str, str], arguments: list[str]
) -> None:
    """Do as `python -m` with these arguments does; as `python` does if the first is `-c`.

    This process leads a session of its own, and what it prints goes to the end of the files.
    """
    os.setsid()
    writing = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, file, flags in ((0, os.devnull, 0), (1, output, writing), (2, errors, writing)):
        opened = os.open(file, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if MEASURED in environment:
        import_module("coverage").process_startup()
    paths = environment.get("PYTHONPATH")
    sys.path[:1] = [folder, *(paths.split(os.pathsep) if paths else ())]
    try:
        if arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            exec(arguments[1], {"__name__": "__main__"})  # noqa: S102
        else:
            sys.argv = arguments
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if arguments[0] != "pytest":
            raise
        # To take all of it apart, as Python does at its end, takes as long as most tests.
        sys.stdout.flush()
        os._exit(int(end.code or 0))


class Fork:
    """A process that `Forks` has started."""

    def __init__(self, pid: int, status: Callable[[], int | None]) -> None:
        self.pid = pid
        self._ask = status
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return its exit status, less than 0 if it was a signal; None if it has not ended."""
        if self._status is None:
            self._status = self._ask()
        return self._status

    def wait(self, timeout: float) -> int:
        """Return its exit status once it has ended; fail if it does not end in time."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            assert time.monotonic() < deadline, f"{self.pid} has not ended after {timeout} s"
            time.sleep(0.01)
        return status

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forks:
    """Starts modules in the environment of a project, which has its libraries imported: quickly."""

    def __init__(self, address: str) -> None:
        self.address = address

    def start(
        self,
        folder: Path,
        environment: Mapping[str, str],
        arguments: list[str],
        output: Path,
        errors: Path,
    ) -> Fork:
        """Start what `python -m` with these arguments would; add what it prints to the files."""
        files = [str(file) for file in (folder, output, errors)]
        pid = self._ask("start", *files, dict(environment), arguments)
        assert isinstance(pid, int)
        return Fork(pid, lambda: self._ask("status", pid))

    def run(
        self,
        folder: Path,
        environment: Mapping[str, str],
        arguments: list[str],
        output: Path,
        timeout: float,
    ) -> int:
        """Do so, wait for its end, kill what it has left, and return its exit status."""
        started = self.start(folder, environment, arguments, output, output)
        try:
            return started.wait(timeout)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)

    def _ask(self, what: str, *parameters: object) -> int | None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.address)
            with connection.makefile("rw", encoding="utf-8") as lines:
                lines.write(f"{json.dumps([what, parameters])}\n")
                lines.flush()
                answer: int | None = json.loads(lines.readline())
                return answer


class ForkServer(Forks):
    """What is forked, as long as it is not closed."""

    def __init__(self, python: str | Path, environment: Mapping[str, str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="forks-"))
        super().__init__(str(self._folder / "socket"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()
            number = listener.fileno()
            self._process = subprocess.Popen(
                [python, __file__, str(number)],
                env=environment,
                stdin=subprocess.PIPE,
                pass_fds=[number],
            )

    def close(self) -> None:
        """End it; what it has started goes on."""
        self._process.communicate()
        shutil.rmtree(self._folder)


if __name__ == "__main__":
    for library in LIBRARIES:
        with suppress(ImportError):
            import_module(library)
    gc.freeze()  # or the first collection in each fork would copy what they share
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        wanted = serve(listening)
    become(*wanted)
