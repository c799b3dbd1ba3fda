"""What a service talks to: a database with the table of its effects, and a broker."""

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from socket import create_server

import psycopg
from live.databases import Database, postgresql_database, sqlite_database
from live.shared import POSTGRESQL, RABBITMQ, SharedServer, rabbitmq_vhost
from project import clean_environment

from benchmarks.cores import Cores, Pinned
from benchmarks.results import Missing

# What an event leaves behind. In the test of kills it has no primary key, so that an effect that
# is done twice leaves two rows, whatever ON CONFLICT says.
ORDERS = (
    "CREATE TABLE orders (id TEXT {key} NOT NULL, amount BIGINT NOT NULL, currency TEXT NOT NULL)"
)


@contextmanager
def database(kind: str, folder: Path, *, unique: bool = True) -> Iterator[Database]:
    """Make a database that has an empty table `orders`, and remove it in the end.

    Raises:
        Missing: there is no server.
    """
    statement = ORDERS.format(key="PRIMARY KEY" if unique else "")
    if kind == "SQLite":
        own = Path(tempfile.mkdtemp(dir=folder))
        with sqlite_database(own) as made:
            with closing(sqlite3.connect(made.file)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(statement)
            yield made
        shutil.rmtree(own)
    else:
        _require(POSTGRESQL)
        with postgresql_database() as made:
            with psycopg.connect(made.url) as session:
                session.execute(statement.encode())
            yield made


def _require(server: SharedServer) -> None:
    if not server.answers():
        raise Missing(f"{server.name} does not answer: set {server.variable}")


class Redis:
    """A Redis of its own, which may be killed and started again.

    Args:
        careful: Whether it writes each command to the disk before it answers. By default, Redis
            saves everything now and then.
    """

    def __init__(self, folder: Path, cores: Cores, *, careful: bool) -> None:
        if shutil.which("redis-server") is None:
            raise Missing("redis-server is not installed")
        self.port = _free_redis_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        self._core = cores.load
        self._command = f"redis-server --bind 127.0.0.1 --port {self.port} --dir {self._folder}"
        if careful:
            self._command += " --appendonly yes --appendfsync always"

    def start(self) -> None:
        self.process = Pinned(self._folder, self._core, self._command, clean_environment())
        self.process.wait_for_port(self.port)

    def kill_and_restart(self) -> None:
        self.process.kill()
        self.start()

    def close(self) -> None:
        self.process.kill()
        shutil.rmtree(self._folder)


def _free_redis_port() -> int:
    while True:
        port = random.SystemRandom().randrange(16_000, 17_000)
        with suppress(OSError), create_server(("127.0.0.1", port)):
            return port


@contextmanager
def rabbitmq() -> Iterator[str]:
    """Take an empty host of the RabbitMQ that runs here, and yield its URL.

    Raises:
        Missing: there is no server.
    """
    _require(RABBITMQ)
    with rabbitmq_vhost() as url:
        yield url
