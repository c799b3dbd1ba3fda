"""Servers of a test's own, on free ports: they may be stopped, frozen and started again."""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Self

import psycopg
from live import PATIENCE, Process, free_port, listens, wait_for
from services import missing, require_program

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
RABBITMQ_FOLDERS = ("/usr/sbin", *map(str, Path("/usr/lib/rabbitmq/lib").glob("*/sbin")))
POSTGRESQL_FOLDERS = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)


class Broker:
    """A broker that is a command, and may go and come back."""

    def __init__(self, folder: Path, command: str, port: int, url: str, **environment: str) -> None:
        self.port = port
        self.url = url
        self._folder, self._command = folder, command
        self._environment = dict(os.environ) | environment

    def start(self) -> None:
        self._process = Process(self._folder, self._command, self._environment)
        self._process.wait_for_port(self.port)

    def stop(self) -> None:
        """Kill it; without persistence, that loses what it holds."""
        self._process.kill()
        wait_for(lambda: not listens(self.port), f"port {self.port} to be free")

    def freeze(self) -> None:
        """Let it hold its connections and take new ones, and answer none."""
        self._process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Redis(Broker):
    """A Redis that keeps nothing."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        program = require_program("redis-server")
        folder.joinpath("redis.conf").write_text(f'bind 127.0.0.1\nport {port}\nsave ""\n')
        super().__init__(folder, f"{program} redis.conf", port, f"redis://127.0.0.1:{port}")


class RabbitMQ(Broker):
    """A second node of the RabbitMQ that is installed; it begins in about four seconds."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        # The one in PATH may be a wrapper, which becomes another user.
        program = require_program("rabbitmq-server", *RABBITMQ_FOLDERS)
        inner = [each for each in RABBITMQ_FOLDERS[1:] if Path(each, "rabbitmq-server").exists()]
        program = f"{inner[0]}/rabbitmq-server" if inner else program
        environment = {
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "HOME": str(folder),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_NODENAME": f"chaos{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
        }
        url = f"amqp://guest:guest@127.0.0.1:{port}//"
        super().__init__(folder, program, port, url, **environment)


OWN_BROKERS: dict[str, Callable[[Path], Broker]] = {"redis": Redis, "rabbitmq": RabbitMQ}


@contextmanager
def silent(port: int) -> Iterator[None]:
    """Take connections to a port, and never answer: not even accept them, which the system does."""
    with socket.create_server(("127.0.0.1", port), backlog=1000):
        yield


# PostgreSQL refuses to run as root.
AS_POSTGRES = ("runuser", "-u", "postgres", "--") if IS_ROOT else ()


def _folder_of_postgresql() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    if IS_ROOT:
        shutil.chown(folder, "postgres")
    return folder


@cache
def _new_cluster() -> Path:
    """Make a cluster that no server runs on, once, for to copy it takes less time."""
    folder = _folder_of_postgresql()
    atexit.register(shutil.rmtree, folder)
    program = require_program("pg_ctl", *POSTGRESQL_FOLDERS)
    options = "--username=postgres --auth=trust --no-sync"
    command = [*AS_POSTGRES, program, "initdb", "-D", str(folder / "data"), "-o", options]
    subprocess.run(command, cwd=folder, capture_output=True, timeout=PATIENCE, check=True)
    return folder / "data"


class PostgreSQL:
    """A cluster of its own."""

    def __init__(self) -> None:
        self._program = require_program("pg_ctl", *POSTGRESQL_FOLDERS)
        self._folder = _folder_of_postgresql()
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        copy = [*AS_POSTGRES, "cp", "-R", "-p", str(_new_cluster()), str(self._folder)]
        subprocess.run(copy, cwd=self._folder, timeout=PATIENCE, check=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self.thaw()
            self.stop()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self._folder}"
        self._control("start", "-w", "-l", f"{self._folder}/log", "-o", options)
        self._process = int(self._folder.joinpath("data/postmaster.pid").read_text().split()[0])

    def stop(self) -> None:
        """End it at once, as a crash would."""
        self._control("stop", "-m", "immediate")
        self._process = 0

    def set_read_only(self, value: bool) -> None:
        """Refuse all writes, or no longer, and end all connections, as a failover does."""
        options = "-c default_transaction_read_only=off"
        with psycopg.connect(self.url, autocommit=True, options=options) as connection:
            state = b"on" if value else b"off"
            connection.execute(b"ALTER SYSTEM SET default_transaction_read_only = " + state)
            connection.execute("SELECT pg_reload_conf()")
            wait_for(lambda: self._is_read_only() == value, "the new setting to apply")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )

    def check(self) -> None:
        """Fail if the inbox is damaged, or an index does not fit it."""
        with psycopg.connect(self.url) as connection:
            connection.execute("CREATE EXTENSION amcheck")
            connection.execute(
                "SELECT bt_index_check(indexrelid, true) FROM pg_index"
                " WHERE indrelid = 'inbox'::regclass"
            )

    def freeze(self) -> None:
        """Stop all of its processes: connections are taken, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self._process, number)  # first, so that it has no new children once stopped
        listed = ["pgrep", "-P", str(self._process)]
        children = subprocess.run(listed, capture_output=True, check=True, encoding="ascii").stdout
        for child in children.split():
            with suppress(ProcessLookupError):  # the server of a connection that has just ended
                os.kill(int(child), number)

    def _is_read_only(self) -> bool:
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SHOW default_transaction_read_only").fetchone()
            return row == ("on",)

    def _control(self, action: str, *arguments: str) -> None:
        command = [*AS_POSTGRES, self._program, action, "-D", f"{self._folder}/data", *arguments]
        # The server inherits where this prints to, so that waiting for its end is no way.
        subprocess.run(
            command,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=True,
        )


class SmallDisk:
    """A disk of a few megabytes, that can be filled: a tmpfs, where we may mount one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        self._sudo = () if IS_ROOT else ("sudo", "-n")

    def __enter__(self) -> Self:
        self.folder.mkdir()
        mount = [*self._sudo, "mount", "-t", "tmpfs", "-o", "size=16m,mode=777", "tmpfs"]
        if shutil.which(mount[0]) is None or not _succeeds([*mount, str(self.folder)]):
            missing("no disk can be filled: we may not mount a tmpfs")
        return self

    def __exit__(self, *_: object) -> None:
        assert _succeeds([*self._sudo, "umount", "--lazy", str(self.folder)])

    def fill(self) -> None:
        """Leave no room."""
        with self._filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def clear(self) -> None:
        self._filler.unlink()


def _succeeds(command: list[str]) -> bool:
    return not subprocess.run(
        command, capture_output=True, timeout=PATIENCE, check=False
    ).returncode
