"""The tests of a generated project can fail: each of these defects turns them red."""

import ast
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from conftest import Baked, Install
from live.databases import DATABASES
from project import Project, clean_environment

from mutants import (
    answers,
    brokers,
    closed,
    committed,
    crashes,
    drains,
    exactly_once,
    examples,
    leases,
    once,
    retries,
    verified,
)
from mutants.mutant import Mutant, Where

PROMISES = [
    committed,
    once,
    verified,
    closed,
    crashes,
    brokers,
    retries,
    leases,
    exactly_once,
    drains,
]
MUTANTS: list[Mutant] = [
    mutant for promise in (*PROMISES, answers, examples) for mutant in promise.MUTANTS
]
PLACES = sorted({mutant.where for mutant in MUTANTS}, key=str)

OPTIONS = ("-x", "-q", "--tb=short", "-p", "no:cacheprovider")
PATIENCE = 240  # seconds, for a command that takes ten on an idle machine


@pytest.fixture
def copy(install: Install, tmp_path: Path) -> Callable[[Where], Project]:
    """Return a copy of a project, in the environment that others use."""

    def copy(where: Where) -> Project:
        source = install(where.variant).path
        return Project(shutil.copytree(source, tmp_path / "copy", symlinks=True))

    return copy


def run_tests(
    project: Project, tests: Iterable[str], where: Where
) -> subprocess.CompletedProcess[str]:
    with DATABASES[where.database](project.path.parent) as database:
        return subprocess.run(
            [".venv/bin/python", "-m", "pytest", *OPTIONS, *tests],
            cwd=project.path,
            env=clean_environment(TEST_DATABASE_URL=database.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )


@pytest.mark.parametrize("where", PLACES, ids=str)
def test_without_a_defect_they_pass(where: Where, copy: Callable[[Where], Project]) -> None:
    """Or it would mean nothing that they fail with one."""
    tests = {mutant.tests for mutant in MUTANTS if mutant.where == where}
    done = run_tests(copy(where), sorted(tests), where)
    assert done.returncode == pytest.ExitCode.OK, done.stdout


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_with_a_defect_they_fail(mutant: Mutant, copy: Callable[[Where], Project]) -> None:
    project = copy(mutant.where)
    project.write(mutant.file, mutant.mutate(project.read(mutant.file)))
    done = run_tests(project, [mutant.tests], mutant.where)
    # Not any exit status: a project that cannot even be imported proves nothing about its tests.
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, f"nothing notices:\n{done.stdout}"
    # Nor does a defect that cannot even run.
    assert "NameError" not in done.stdout, done.stdout


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_every_mutant_can_be_made(mutant: Mutant, baked: Baked) -> None:
    ast.parse(mutant.mutate(baked(mutant.where.variant).read(mutant.file)))
    assert mutant.new != mutant.old


def test_two_defects_or_more_break_each_promise() -> None:
    assert len(PROMISES) == 10
    assert all(len(promise.MUTANTS) >= 2 for promise in PROMISES)


def test_every_mutant_has_a_name_of_its_own() -> None:
    assert len({str(mutant) for mutant in MUTANTS}) == len(MUTANTS)
