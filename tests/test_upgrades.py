"""A database that an earlier release has left is taken over, with all that is in it."""

import os
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from chaos import (
    LEASE,
    LONGEST_HANDOVER,
    Service,
    Setup,
    deliver,
    recording_copy,
    seconds_until_empty,
    surroundings,
)
from conftest import Install
from live import DATABASES, Database
from project import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

RELEASES = sorted((ROOT / "tests" / "releases").iterdir())


def load(database: Database, script: str) -> None:
    if database.url.startswith("sqlite:///"):
        with closing(sqlite3.connect(database.url.removeprefix("sqlite:///"))) as connection:
            connection.executescript(script)
    else:
        with psycopg.connect(database.url) as connection:
            connection.execute(script.encode())


@pytest.mark.parametrize("kind", DATABASES)
@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_what_an_earlier_release_has_kept_is_known_handled_and_replayed(
    release: Path, kind: str, install: Install, tmp_path: Path
) -> None:
    project = recording_copy(install, "background", tmp_path)
    with surroundings(Setup("background", "", kind), tmp_path) as (database, environment):
        load(database, (release / f"{kind}.sql").read_text(encoding="utf-8"))
        with Service(project, "background", 1, 0, **environment) as service:
            for id in ("evt_done", "evt_pending", "evt_new"):
                assert [answer.status for answer in deliver(service.ports, id)] == [200]
            project.run(".venv/bin/python -m app replay --dead", 60, **environment)
            seconds_until_empty(database, LEASE + LONGEST_HANDOVER)
        kept = database.rows("SELECT event_id, state FROM inbox ORDER BY id")
        effects = database.rows("SELECT event_id FROM effects ORDER BY event_id")
    assert kept == [(f"evt_{name}", "done") for name in ("done", "dead", "pending", "new")]
    assert effects == [(f"evt_{name}",) for name in ("dead", "new", "pending")]


def test_this_release_has_left_a_database_for_the_next_ones() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert version in [release.name for release in RELEASES]
