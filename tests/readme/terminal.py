"""A terminal in which commands are typed one after another."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from filelock import FileLock
from live.processes import Process, listens, wait_for
from project import clean_environment

SERVER = re.compile(r"^(?:uv run )?(?:uvicorn |celery .*\bworker\b|arq |python -m app\.worker)")
PORT = 8000  # where uvicorn listens unless it is told otherwise
TURN_SECONDS = 900  # for other tests that use the port


class Terminal:
    """Servers stay until a later line starts them anew; all other commands end."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self._state = folder.with_name(f"{folder.name}.state")
        self._environment = clean_environment(**environment)
        self._servers: dict[str, Process] = {}
        self._turn = FileLock(Path(tempfile.gettempdir(), f"webhooks-{PORT}.lock"))

    def type(self, line: str) -> str:
        """Run what a reader would type, and return its output; a server is left running."""
        *before, last = line.strip().split(" && ")
        last = re.sub(r"\s+#.*", "", last)
        if not SERVER.match(last):
            return self._run(line)
        for command in before:
            self._run(command)
        self._start(last)
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        """End the servers; fail if one of them has ended by itself."""
        ended = [server.printed for server in self._servers.values() if server.ended]
        for server in self._servers.values():
            server.end()
        self._turn.release(force=True)
        assert failure or not ended, "a server ended:\n" + "\n".join(ended)

    def _run(self, command: str) -> str:
        # The folder and the variables that a command leaves behind are the next one's.
        script = f'{command}\n{{ printf "%s\\0" "$PWD"; env -0; }} > "{self._state}"'
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self._environment,
            input="\n" * 100,  # whatever is asked, Enter takes the default
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=600,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, f"{command}\nexited with {done.returncode}:\n{printed}"
        folder, *variables = self._state.read_text(encoding="utf-8").split("\0")
        self.folder = Path(folder)
        self._environment = dict(each.split("=", 1) for each in variables if each)
        return done.stdout

    def _start(self, command: str) -> None:
        kind = command.removeprefix("uv run ").split()[0]
        if kind in self._servers:  # whoever starts it anew has ended the old one first
            self._servers.pop(kind).end()
        if kind == "uvicorn":
            if not self._turn.is_locked:
                self._turn.acquire(timeout=TURN_SECONDS)
            wait_for(lambda: not listens(PORT), f"port {PORT} to be free")
        server = self._servers[kind] = Process(self.folder, command, self._environment)
        if kind == "uvicorn":
            server.wait_for_port(PORT)
