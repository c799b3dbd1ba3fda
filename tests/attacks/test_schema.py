"""The schema changes: a user's own tables, and a large inbox while events arrive.

STORED_EVENTS is how many events are in the inbox then: 1,000,000 unless it is set.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from conftest import Figures, Install
from live.databases import DATABASES, SQLITE, Database
from live.sender import Answer, Sender, percentile_99
from live.service import ON_POSTGRESQL, ON_SQLITE, SLACK, Service, Setup
from project import Project, Variant, bake

from attacks.conftest import Run

STORED = int(os.environ.get("STORED_EVENTS") or 1_000_000)
ACK_DEADLINE = 5.0  # seconds, as generated
VERSIONS = "app/inbox/migrations/versions"

COLUMNS = "endpoint, event_id, event_type, payload, state, due_at, attempts, finished_at"
ROW = "'stripe', 'old_' || i, 'test.happened', {payload}, 'done', NULL, 1, 1"
FILL_SQLITE = (
    f"INSERT INTO webhook_events ({COLUMNS})"  # noqa: S608
    f" WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {STORED})"
    f" SELECT {ROW.format(payload='zeroblob(1000)')} FROM n"
)
BODY = "convert_to(repeat('x', 1000), 'UTF8')"
FILL_POSTGRESQL = (
    f"INSERT INTO webhook_events ({COLUMNS})"  # noqa: S608
    f" SELECT {ROW.format(payload=BODY)}"
    f" FROM generate_series(1, {STORED}) AS i"
)

REVISION = '''"""A revision of the engine, made as CONTRIBUTING.md says."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    """Change the table of events."""
    {change}


def downgrade() -> None:
    """Is not needed here."""
'''
COLUMN = 'op.add_column("webhook_events", sa.Column("added", sa.Text))'
INDEX = """if op.get_context().dialect.name == "sqlite":
        op.create_index("webhook_events_added", "webhook_events", ["endpoint", "received_at"])
        return
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS webhook_events_added")
        op.execute(
            "CREATE INDEX CONCURRENTLY webhook_events_added"
            " ON webhook_events (endpoint, received_at)"
        )"""
CHANGES = {"column": COLUMN, "index": INDEX}

TABLE = """

things = sa.Table("things", metadata, sa.Column("id", sa.BigInteger, primary_key=True))
"""


def add_revision(project: Project, change: str) -> None:
    """Add a revision to those of the engine."""
    names = [Path(file).name for file in project.files if file.startswith(f"{VERSIONS}/")]
    before = max(names).partition("_")[0]
    after = f"{int(before) + 1:04}"
    text = REVISION.format(revision=after, before=before, change=change)
    project.write(f"{VERSIONS}/{after}_{len(names)}.py", text)


def fill(database: Database) -> None:
    """Put many events into the inbox that were handled long ago."""
    if database.url.startswith(SQLITE):
        with closing(sqlite3.connect(database.file)) as connection:
            connection.execute(FILL_SQLITE)
            connection.commit()
    else:
        with psycopg.connect(database.url, autocommit=True) as session:
            session.execute(FILL_POSTGRESQL.encode())
            session.execute("VACUUM ANALYZE webhook_events")


@contextmanager
def migrating(service: Service) -> Iterator[list[float]]:
    """Migrate, and yield a list that holds when that began and ended, once it has."""
    times: list[float] = []

    def migrate() -> None:
        begun = time.time()
        service.run("app migrate")
        times.extend((begun, time.time()))

    thread = threading.Thread(target=migrate)
    thread.start()
    yield times
    thread.join()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("setup", [ON_SQLITE[0], ON_POSTGRESQL[0]], ids=str)
def test_a_revision_of_a_large_inbox_holds_no_acknowledgement_longer_than_the_deadline(
    setup: Setup, change: str, run: Run, figures: Figures
) -> None:
    settings = {"ACK_DEADLINE_SECONDS": str(ACK_DEADLINE)}
    with run(setup, "await leave_effect(event)", settings=settings) as service:
        fill(service.database)
        add_revision(service.project, CHANGES[change])
        with Sender(service.ports, number=4) as sender:
            time.sleep(2)
            with migrating(service) as times:
                pass
            time.sleep(1)
        assert len(times) == 2, "the migration failed"
        answers = sender.answers
        during = [each for each in answers if times[0] <= each.ended and each.begun <= times[1]]
        figures(
            stored=STORED,
            migration_seconds=round(times[1] - times[0], 1),
            slowest_ack_seconds=round(slowest(during), 2),
            ack_p99_ms=percentile_99(during),
            slowest_ack_before_seconds=round(slowest(answers[: len(answers) // 4]), 2),
        )
        statuses = {answer.status for answer in answers}
        if setup.database == "sqlite" and change == "index":
            # All writers wait for it. Who waits too long is told to send again, and does.
            assert statuses <= {200, 503}
            assert slowest(during) < ACK_DEADLINE + SLACK
        else:
            assert statuses == {200}
            assert slowest(during) < ACK_DEADLINE
        service.seconds_until_handled()


def slowest(answers: list[Answer]) -> float:
    return max(answer.seconds for answer in answers)


@pytest.mark.parametrize("kind", DATABASES)
def test_a_table_of_the_users_is_made_and_taken_back_as_alembic_documents_it(
    kind: str, install: Install, tmp_path: Path
) -> None:
    project = bake(tmp_path)
    project.share_environment(install(Variant("stripe", "background")).environment)
    billing = "app/services/billing.py"
    with DATABASES[kind](tmp_path) as database:
        tables = (
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'things'"
            if kind == "sqlite"
            else "SELECT tablename FROM pg_tables WHERE tablename = 'things'"
        )

        def type_in(command: str) -> None:
            project.run(command, DATABASE_URL=database.url)

        type_in("uv run python -m app migrate")
        project.write(billing, project.read(billing) + TABLE)
        type_in("uv run alembic revision --autogenerate -m things")
        [made] = [file for file in project.files if file.endswith("_things.py")]
        revision = project.read(made)
        assert 'op.create_table(\n        "things"' in revision
        assert "webhook" not in revision
        assert database.rows(tables) == []

        type_in("uv run ruff check")
        type_in("uv run ruff format --check")
        type_in("uv run alembic upgrade head")
        assert database.rows(tables) == [("things",)]
        type_in("uv run alembic check")
        type_in("uv run alembic downgrade -1")
        assert database.rows(tables) == []
        type_in("uv run python -m app migrate")
        assert database.rows(tables) == [("things",)]
        type_in("uv run alembic downgrade base")
        assert database.count("true") == 0
