"""A database for each test, read without the code of the project."""

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from live.processes import PATIENCE
from live.shared import POSTGRESQL

SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Database:
    """A database, by its URL."""

    url: str

    @property
    def file(self) -> Path:
        """The file of a database on SQLite."""
        return Path(self.url.removeprefix(SQLITE))

    def rows(self, query: str) -> list[tuple[object, ...]]:
        if self.url.startswith(SQLITE):
            connection = sqlite3.connect(self.file, timeout=PATIENCE)
            try:
                return connection.execute(query).fetchall()
            finally:
                connection.close()
        with psycopg.connect(self.url) as database:
            return database.execute(query.encode()).fetchall()

    def count(self, condition: str) -> int:
        """Count the events that meet a condition."""
        query = f"SELECT count(*) FROM webhook_events WHERE {condition}"  # noqa: S608
        [(number,)] = self.rows(query)
        assert isinstance(number, int)
        return number


@contextmanager
def sqlite_database(folder: Path) -> Iterator[Database]:
    yield Database(f"{SQLITE}{folder / 'live.db'}")


@contextmanager
def postgresql_database(_: Path | None = None) -> Iterator[Database]:
    """Make a database on the server, and remove it in the end."""
    server = POSTGRESQL.require()
    name = f"webhooks_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield Database(urlsplit(server)._replace(path=f"/{name}").geturl())
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


Databases = dict[str, Callable[[Path], AbstractContextManager[Database]]]
DATABASES: Databases = {"sqlite": sqlite_database, "postgresql": postgresql_database}
