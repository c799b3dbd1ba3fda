"""The database at the start: what can never work is said, what may come back does not stop it."""

import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.database import parse_url, url
from app.inbox import engines
from app.inbox.inbox import Inbox
from tests.delivery import Database
from tests.engine.store import CLOSED_PORT, connect_to, on_postgresql, on_sqlite

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(monkeypatch: pytest.MonkeyPatch, elsewhere: sa.URL) -> AsyncIterator[Inbox]:
    """Open an inbox in another database than that of the tests."""
    with monkeypatch.context() as patch:
        connect_to(elsewhere, patch)
        inbox = Inbox()
        try:
            await inbox.open()
            yield inbox
        finally:
            await inbox.close()


async def refusal(monkeypatch: pytest.MonkeyPatch, elsewhere: sa.URL) -> str:
    """Return the one line that a start with a database ends with."""
    with pytest.raises(SystemExit) as refusal:
        async with opened(monkeypatch, elsewhere):
            pass
    line = str(refusal.value)
    assert line.startswith("DATABASE_URL")
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "DATABASE_URL is not a valid URL: use postgresql://user:password@host/name"),
        (
            "postgresql://host:port/inbox",
            "DATABASE_URL is not a valid URL: use postgresql://user:password@host/name",
        ),
        ("mysql://host/inbox", "DATABASE_URL names mysql: use sqlite or postgresql"),
        ("sqlite:///inbox.db?timeout=5", "remove timeout"),
        ("postgresql://host/inbox?ssl=true", 'invalid connection option "ssl"'),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_the_remedy(text: str, problem: str) -> None:
    with pytest.raises(SystemExit) as refusal:
        parse_url(text)

    line = str(refusal.value)
    assert problem in line
    assert line.startswith("DATABASE_URL")
    assert "\n" not in line


@pytest.mark.parametrize(
    "text",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?uri=1",
        "sqlite:///file:x?mode=memory&uri=1",
    ],
)
def test_a_database_that_would_not_last_is_refused(text: str) -> None:
    with pytest.raises(SystemExit, match=r"^DATABASE_URL names no file, so events would be lost"):
        parse_url(text)


def test_a_sqlite_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))

    with pytest.raises(SystemExit, match=r"^DATABASE_URL: SQLite .* is too old: use 3.35"):
        parse_url("sqlite:///inbox.db")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_postgresql_goes_by_both_of_its_names(scheme: str) -> None:
    assert parse_url(f"{scheme}://me@host/name?sslmode=require").get_backend_name() == "postgresql"


@on_sqlite("it is about files")
async def test_a_folder_that_does_not_exist_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "nowhere" / "inbox.db"

    line = await refusal(monkeypatch, url.set(database=str(file)))

    assert f"{file} and its folder must exist, or be writable" in line


@on_sqlite("it is about files")
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
async def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chmod(tmp_path, 0o500)  # noqa: PTH101

    line = await refusal(monkeypatch, url.set(database=str(tmp_path / "inbox.db")))

    assert "must exist, or be writable" in line


@on_sqlite("it is about files")
async def test_a_file_that_is_no_database_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "inbox.db"
    file.write_text("some text, and long enough to be a file of its own" * 100)

    line = await refusal(monkeypatch, url.set(database=str(file)))

    assert "not a database" in line
    assert str(file) in line


@on_sqlite("PostgreSQL has no file that whoever comes first makes")
async def test_a_database_that_another_process_is_making_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "CONNECT_SECONDS", 0)
    connect_to(url.set(database=str(tmp_path / "new")), monkeypatch)
    with closing(sqlite3.connect(tmp_path / "new", isolation_level=None)) as another:
        another.execute("CREATE TABLE something (anything INTEGER)")
        another.execute("BEGIN")
        another.execute("SELECT * FROM something")  # which keeps it from becoming a WAL database
        engine = engines.create_engine()
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT * FROM something").all() == []
        engine.dispose()


@on_postgresql("a file is never away")
async def test_a_server_that_is_away_does_not_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(monkeypatch, url.set(port=CLOSED_PORT)):
        pass

    assert "DATABASE_URL: the database is away" in caplog.text
    assert "trying again" in caplog.text


@on_postgresql("it is about a server")
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"database": "no_such_database"}, 'database "no_such_database" does not exist'),
        ({"username": "nobody_at_all", "password": "wrong"}, "nobody_at_all"),
        ({"query": {"sslmode": "nonsense"}}, "sslmode"),
        ({"port": 99_999}, "99999"),
    ],
)
async def test_a_server_that_refuses_says_why(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object], problem: str
) -> None:
    line = await refusal(monkeypatch, url.set(**change))  # type: ignore[arg-type]

    assert problem in line
    assert "check user, password, database and options" in line
    assert "wrong" not in line


@pytest.fixture
def role_without_create(database: Database) -> Iterator[sa.URL]:
    """The URL of a role whose schema is empty, and belongs to somebody else."""
    name = "webhooks_tests_without_create"
    drop = f"DROP SCHEMA IF EXISTS {name}; DROP ROLE IF EXISTS {name}"
    create = f"CREATE ROLE {name} LOGIN PASSWORD 'made-up'; CREATE SCHEMA {name}"
    allow = f"GRANT USAGE ON SCHEMA {name} TO {name}; ALTER ROLE {name} SET search_path = {name}"
    try:
        with database.engine.begin() as connection:
            connection.exec_driver_sql(f"{drop}; {create}; {allow}")
    except sa.exc.ProgrammingError as error:
        pytest.skip(f"this role may not create another: {error.orig}")
    yield url.set(username=name, password="made-up")
    with database.engine.begin() as connection:
        connection.exec_driver_sql(drop)


@on_postgresql("SQLite has no roles")
async def test_a_role_that_may_not_create_tables_is_told_what_to_grant(
    monkeypatch: pytest.MonkeyPatch, role_without_create: sa.URL
) -> None:
    line = await refusal(monkeypatch, role_without_create)

    assert "permission denied" in line
    assert "GRANT CREATE ON SCHEMA public to the role" in line
