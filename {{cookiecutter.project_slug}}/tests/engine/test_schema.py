"""The schema: revisions build it, and no process works with one that it does not fit."""

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

import app.endpoints  # noqa: F401  its handlers import your tables
from app import schema
from app.database import is_sqlite, metadata, url
from app.inbox import engines
from app.inbox.engines import create_engine
from app.inbox.group_commit import StoreUnavailable
from app.inbox.inbox import Added, Inbox
from app.schema import ENGINE, HISTORIES, YOURS, History, applied_revisions, migrate
from app.settings import settings
from tests.delivery import Database
from tests.engine.service import delivery
from tests.engine.store import connect_to, locked, on_postgresql, on_sqlite
from tests.engine.test_cli import output

pytestmark = pytest.mark.anyio

HEAD = max(schema.known_revisions(ENGINE))
NEXT = f"{int(HEAD) + 1:04}"
ONE_MORE = '''"""One more revision."""

import sqlalchemy as sa
from alembic import op

revision = "NEXT"
down_revision = "HEAD"


def upgrade() -> None:
    """Add a column and an index to the table of events, and hold nobody up."""
    op.add_column("webhook_events", sa.Column("second", sa.Text))
    if op.get_context().dialect.name == "sqlite":
        op.create_index("webhook_events_second", "webhook_events", ["second"])
        return
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS webhook_events_second")
        op.execute("CREATE INDEX CONCURRENTLY webhook_events_second ON webhook_events (second)")


def downgrade() -> None:
    """Drop both."""
    op.drop_index("webhook_events_second", "webhook_events")
    op.drop_column("webhook_events", "second")
'''.replace("NEXT", NEXT).replace("HEAD", HEAD)


@pytest.fixture
def empty(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[sa.Engine]:
    """Connections to an empty database, to which whatever connects from now on connects."""
    name = "webhooks_tests_of_the_schema"
    if is_sqlite:
        connect_to(url.set(database=str(tmp_path / "empty.db")), monkeypatch)
    else:
        drop = f"DROP SCHEMA IF EXISTS {name} CASCADE"
        with database.engine.begin() as connection:
            connection.exec_driver_sql(f"{drop}; CREATE SCHEMA {name}")
        own = url.update_query_dict({"options": f"-csearch_path={name}"})
        connect_to(own, monkeypatch)
    engine = create_engine()
    yield engine
    engine.dispose()
    if not is_sqlite:
        with database.engine.begin() as connection:
            connection.exec_driver_sql(drop)


@pytest.fixture
def longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """The history of the engine with one more revision. It is not in use yet."""
    folder = tmp_path / "longer"
    shutil.copytree(ENGINE.folder, folder)
    (folder / "versions" / "one_more.py").write_text(ONE_MORE)
    return replace(ENGINE, folder=folder)


def use(history: History, patch: pytest.MonkeyPatch) -> None:
    """Let the code have this history of the engine."""
    patch.setattr(schema, "HISTORIES", (history, YOURS))


def applied(engine: sa.Engine) -> list[set[str]]:
    """Return what was applied last, of the engine's revisions and of yours."""
    with engine.connect() as connection:
        return [applied_revisions(connection, history) for history in HISTORIES]


def heads(history: History) -> set[str]:
    """Return the latest revisions of a history, as Alembic sees them."""
    return set(ScriptDirectory(str(history.folder)).get_heads())


def config(history: History) -> Config:
    """Return what Alembic has to know of a history."""
    config = Config()
    config.set_main_option("script_location", str(history.folder))
    return config


def described(engine: sa.Engine) -> dict[str, Any]:
    """Return all tables, but those which name a revision, as the database describes them."""
    seen = sa.inspect(engine)
    names = set(seen.get_table_names()) - {history.version_table for history in HISTORIES}
    return {
        name: {
            "columns": {each["name"]: describe(each) for each in seen.get_columns(name)},
            "primary key": seen.get_pk_constraint(name)["constrained_columns"],
            "indexes": {each["name"]: describe(each) for each in seen.get_indexes(name)},
            "unique": [each["column_names"] for each in seen.get_unique_constraints(name)],
            "checks": [each["sqltext"] for each in seen.get_check_constraints(name)],
            "references": [describe(each) for each in seen.get_foreign_keys(name)],
            "options": seen.get_table_options(name),
        }
        for name in names
    }


def describe(reflected: Any) -> dict[str, str]:
    """Return what can be compared of a column, an index or a reference."""
    options = reflected.pop("dialect_options", {})
    return {key: str(value) for key, value in (reflected | options).items() if key != "comment"}


def reused_ids(engine: sa.Engine) -> list[str]:
    """Return the tables on SQLite whose latest id is used again if its row is deleted."""
    if not is_sqlite:
        return []
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%AUTOINCREMENT%'"
    with engine.connect() as connection:
        names = set(connection.exec_driver_sql(query).scalars())
    return sorted(names & set(metadata.tables))


# Revisions


async def test_the_revisions_build_the_tables_that_the_code_describes(empty: sa.Engine) -> None:
    """If this fails, a table was changed without a revision: see docs/handlers.md."""
    migrate()
    of_revisions = described(empty), reused_ids(empty)
    for history in reversed(HISTORIES):
        await asyncio.to_thread(command.downgrade, config(history), "base")
    assert described(empty) == {}

    metadata.create_all(empty)

    assert of_revisions == (described(empty), reused_ids(empty))


async def test_every_revision_can_be_applied_and_taken_back(
    empty: sa.Engine, longer: History
) -> None:
    for history in (longer, YOURS):
        scripts = ScriptDirectory(str(history.folder))
        there = [revision.revision for revision in reversed(list(scripts.walk_revisions()))]
        for revision in there:
            before = described(empty)
            command.upgrade(config(history), revision)
            after = described(empty)
            command.downgrade(config(history), "-1")
            assert described(empty) == before
            command.upgrade(config(history), "heads")
            command.downgrade(config(history), revision)
            assert described(empty) == after
        command.upgrade(config(history), "heads")


async def test_events_survive_a_revision(
    empty: sa.Engine, longer: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox()
    await inbox.open()
    await inbox.add("test", delivery())
    await inbox.close()
    use(longer, monkeypatch)

    inbox = Inbox()
    await inbox.open()

    assert applied(empty) == [{NEXT}, heads(YOURS)]
    assert await inbox.add("test", delivery()) is Added.DUPLICATE
    await inbox.close()


async def test_what_the_code_knows_of_its_revisions_is_what_alembic_knows() -> None:
    for history in HISTORIES:
        known = schema.known_revisions(history)
        scripts = ScriptDirectory(str(history.folder)).walk_revisions()
        assert known == {each.revision: set(each._all_down_revisions) for each in scripts}


def test_a_revision_that_merges_two_has_both(tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()
    file = tmp_path / "versions" / "c_merge.py"
    file.write_text('revision: str = "c"\ndown_revision: tuple[str, ...] = ("a", "b")\n')

    assert schema.known_revisions(History("x", tmp_path, "x")) == {"c": {"a", "b"}}


# The start


async def test_processes_may_start_at_once_on_an_empty_database(empty: sa.Engine) -> None:
    inboxes = [Inbox() for _ in range(4)]

    await asyncio.gather(*(inbox.open() for inbox in inboxes))

    assert applied(empty) == [heads(ENGINE), heads(YOURS)]
    await asyncio.gather(*(inbox.close() for inbox in inboxes))


async def test_the_command_migrates_and_says_where_it_is(empty: sa.Engine) -> None:
    for _ in range(2):
        printed = await output("migrate")
        assert f"engine: {', '.join(heads(ENGINE))}" in printed
        assert "yours: " in printed
        assert applied(empty) == [heads(ENGINE), heads(YOURS)]


async def test_production_does_not_start_on_an_older_schema_and_names_the_command(
    empty: sa.Engine, longer: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "environment", "production")
    for names in ("webhook_version and alembic_version", "webhook_version"):
        inbox = Inbox()
        with pytest.raises(SystemExit) as refusal:
            await inbox.open()
        await inbox.close()
        assert str(refusal.value) == (
            f"DATABASE_URL: the schema is older than this code ({names}): run python -m app migrate"
        )
        migrate()
        use(longer, monkeypatch)


async def test_production_answers_again_when_the_schema_has_been_migrated(
    empty: sa.Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the database was away at the start, its schema is checked when it is back."""
    monkeypatch.setattr(settings, "environment", "production")
    inbox = Inbox()  # not opened, as if the database had been away then
    adding = [inbox.add("test", delivery(f"evt_{number}")) for number in range(2)]
    results = await asyncio.gather(*adding, return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert caplog.text.count("run python -m app migrate") == 1

    migrate()

    assert await inbox.add("test", delivery()) is Added.NEW
    await inbox.close()


async def test_development_migrates_a_database_that_was_away_at_the_start(empty: sa.Engine) -> None:
    inbox = Inbox()

    assert await inbox.add("test", delivery()) is Added.NEW
    await inbox.close()


@pytest.mark.parametrize("environment", ["development", "production"])
async def test_a_schema_that_is_newer_by_one_revision_is_accepted_with_a_warning(
    empty: sa.Engine,
    longer: History,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    environment: str,
) -> None:
    """Old processes go on, start again and are rolled back while new ones are deployed."""
    with monkeypatch.context() as newer:
        use(longer, newer)
        migrate()
    monkeypatch.setattr(settings, "environment", environment)

    inbox = Inbox()
    await inbox.open()

    warning = f"the schema (webhook_version is {NEXT}) is newer than this code ({HEAD})"
    assert warning in caplog.text
    assert await inbox.add("test", delivery()) is Added.NEW
    await inbox.close()
    migrate()
    assert applied(empty) == [{NEXT}, heads(YOURS)]


async def test_a_schema_that_is_newer_by_two_revisions_is_refused(empty: sa.Engine) -> None:
    migrate()
    with empty.begin() as connection:
        connection.exec_driver_sql("UPDATE webhook_version SET version_num = '0099'")
    inbox = Inbox()

    with pytest.raises(SystemExit, match=r"by more than one revision: deploy newer code"):
        await inbox.open()

    await inbox.close()


async def test_a_revision_of_yours_that_the_code_does_not_know_is_newer(
    empty: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    migrate()
    with empty.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'f00d'")
    inbox = Inbox()
    await inbox.open()

    assert "the schema (alembic_version is f00d) is newer than this code" in caplog.text
    await inbox.close()


async def test_a_revision_that_fails_ends_the_start_and_is_named(
    empty: sa.Engine, longer: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ONE_MORE.replace('op.add_column("webhook_events"', 'op.add_column("no_such_table"')
    (longer.folder / "versions" / "one_more.py").write_text(broken)
    use(longer, monkeypatch)
    inbox = Inbox()

    with pytest.raises(SystemExit, match=r"a revision failed: .*no_such_table.*: see python -m"):
        await inbox.open()

    await inbox.close()


@on_sqlite("it is about SQLite's one lock")
async def test_a_revision_that_fails_leaves_nothing_behind(
    empty: sa.Engine, longer: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate()
    before = described(empty)
    broken = ONE_MORE.replace('["second"])', '["no_such_column"])')
    (longer.folder / "versions" / "one_more.py").write_text(broken)
    use(longer, monkeypatch)

    with pytest.raises(sa.exc.OperationalError):
        migrate()

    assert described(empty) == before
    assert applied(empty)[0] == {HEAD}


@on_postgresql("SQLite has one writer at a time")
async def test_a_revision_that_has_to_wait_for_a_table_lets_others_pass(
    empty: sa.Engine, longer: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox()
    await inbox.open()
    use(longer, monkeypatch)
    monkeypatch.setattr(schema, "LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(schema, "LOCK_PAUSE_SECONDS", 0.05)
    with empty.connect() as somebody:
        somebody.exec_driver_sql("SELECT * FROM webhook_events")
        migrating = asyncio.create_task(asyncio.to_thread(migrate))
        for number in range(5):
            await asyncio.sleep(0.05)
            async with asyncio.timeout(1):
                await inbox.add("test", delivery(f"evt_{number}"))
        assert not migrating.done()
    await migrating
    assert applied(empty)[0] == {NEXT}
    await inbox.close()


@on_sqlite("PostgreSQL is away if nobody listens")
@pytest.mark.parametrize(
    ("limit", "line"),
    [
        ("ack_deadline_seconds", "the database does not answer; trying again"),
        ("CONNECT_SECONDS", "the database is away: OperationalError: database is locked"),
    ],
)
async def test_a_database_that_is_locked_does_not_stop_the_start(
    empty: sa.Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    limit: str,
    line: str,
) -> None:
    file = tmp_path / "empty.db"
    with monkeypatch.context() as patch, closing(sqlite3.connect(file)) as another:
        another.execute("PRAGMA journal_mode = WAL")
        another.execute("BEGIN IMMEDIATE")
        patch.setattr(settings if limit.islower() else engines, limit, 0.1)
        inbox = Inbox()
        await inbox.open()

    assert f"DATABASE_URL: {line}" in caplog.text
    assert await inbox.add("test", delivery()) is Added.NEW
    await inbox.close()


async def test_a_start_that_finds_nothing_to_migrate_waits_for_no_lock(database: Database) -> None:
    with locked(database):
        inbox = Inbox()
        async with asyncio.timeout(2):
            await inbox.open()
    await inbox.close()
