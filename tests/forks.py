"""Starts Python modules in forks of one process, which imports the libraries for all of them.

To import those takes longer than most tests, or than a service lives that is killed. This is
started in the environment of a generated project: a line in says what to do, a line out what came
of it, both as JSON; `Forks` asks. It needs nothing but the standard library, for what tests a
project imports it, too.
"""

import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path

# Nothing of the project, and nothing it lacks.
LIBRARIES = (
    *("aiosqlite", "fakeredis", "fastapi.testclient", "httptools", "httpx2", "psycopg", "pydantic"),
    *("opentelemetry.metrics", "pydantic_settings", "pytest", "stripe", "typer", "uvloop"),
    *("sqlalchemy.ext.asyncio", "sqlalchemy.dialects.postgresql.psycopg"),
    *("sqlalchemy.dialects.sqlite.aiosqlite", "uvicorn.main", "uvicorn.protocols.http.auto"),
    *("uvicorn.lifespan.on", "uvicorn.protocols.websockets.auto", "arq.cli", "arq.worker"),
    *("celery.bin.celery", "celery.apps.worker", "celery.concurrency.thread", "celery.signals"),
    *("kombu.transport.filesystem", "kombu.transport.pyamqp", "kombu.transport.redis"),
)

MEASURED = "COVERAGE_PROCESS_CONFIG"  # with which coverage asks to be told of a new process


def start(
    folder: str, output: str, errors: str, environment: dict[str, str], arguments: list[str]
) -> int:
    """Return the id of a new process, which does as `python -m` with these arguments does.

    If the first is `-c`, it does as `python` does. It leads a session of its own, and what it
    prints goes to the end of the files.
    """
    if child := os.fork():
        return child
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
    sys.path[0] = folder
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
    sys.exit()


def status(process: int) -> int | None:
    """Return how a process has ended, less than 0 if by a signal; None if it has not."""
    ended, how = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(how) if ended else None


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

    def __init__(self, python: str | Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [python, __file__],
            env={name: environment[name] for name in environment if name != MEASURED},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

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

    def close(self) -> None:
        """End once nothing is to be started any more; what was started goes on."""
        self._process.communicate()

    def _ask(self, *what: object) -> int | None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{json.dumps(what)}\n")
        self._process.stdin.flush()
        answer: int | None = json.loads(self._process.stdout.readline())
        return answer


if __name__ == "__main__":
    for library in LIBRARIES:
        with suppress(ImportError):
            import_module(library)
    gc.freeze()  # or the first collection in each fork would copy what they share
    for line in sys.stdin:
        asked, *parameters = json.loads(line)
        answer = start(*parameters) if asked == "start" else status(*parameters)
        print(json.dumps(answer), flush=True)  # noqa: T201
