"""The tests of a generated project can fail: each of these defects turns them red."""

import ast
import os
import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Protocol

import pytest
from conftest import Baked, Install
from live import DATABASES, PYTEST, forks_of
from mutants import EVERYWHERE, MUTANTS, PROMISES, Mutant
from project import Variant, clean_environment

can_fork = pytest.mark.skipif(os.name == "nt", reason="Windows cannot fork a process")

OPTIONS = ["-x", "-q", "--no-cov", "--tb=short", "-p", "no:cacheprovider"]
PATIENCE = 240  # seconds, for a command that takes ten on an idle machine
ENVIRONMENT = ".venv"
RUNS = [(variant, mutant) for mutant in MUTANTS for variant in mutant.variants]
NAMES = [f"{variant}: {mutant.name}" for variant, mutant in RUNS]


class RunTests(Protocol):
    """Runs tests of a variant, with a defect if any: returns pytest's status and its output."""

    def __call__(
        self, variant: Variant, database: str, tests: list[str], defect: Mutant | None = None
    ) -> tuple[int, str]: ...


@pytest.fixture
def run_tests(install: Install, tmp_path: Path) -> RunTests:
    def run_tests(
        variant: Variant, database: str, tests: list[str], defect: Mutant | None = None
    ) -> tuple[int, str]:
        # Less its environment, which the copies share: they are quickly made.
        leave_out = shutil.ignore_patterns(ENVIRONMENT, ".*_cache", ".coverage*")
        folder = shutil.copytree(install(variant).path, tmp_path / "copy", ignore=leave_out)
        if defect:
            file = folder / defect.file
            file.write_text(mutated(file.read_text("utf-8"), defect), "utf-8")
        named = [f"tests/{test.format(module=variant.module)}" for test in tests]
        output = tmp_path / "output"
        with DATABASES[database](tmp_path) as made:
            environment = clean_environment(TEST_DATABASE_URL=made.url)
            arguments = [*PYTEST, *OPTIONS, *named]
            forks = forks_of(install(variant))
            status = forks.run(folder, environment, arguments, output, PATIENCE)
        return status, output.read_text(encoding="utf-8", errors="replace")

    return run_tests


def mutated(text: str, mutant: Mutant) -> str:
    times = text.count(mutant.old)
    assert times == 1, f"{mutant.file} has this {times} times, not once:\n{mutant.old}"
    return text.replace(mutant.old, mutant.new)


@can_fork
@pytest.mark.parametrize(
    ("variant", "database"),
    sorted({(variant, mutant.database) for variant, mutant in RUNS}, key=str),
    ids=str,
)
def test_without_a_defect_they_pass(run_tests: RunTests, variant: Variant, database: str) -> None:
    """Or it would mean nothing that they fail with one."""
    tests = {mutant.test for each, mutant in RUNS if (each, mutant.database) == (variant, database)}
    status, output = run_tests(variant, database, sorted(tests))
    assert status == pytest.ExitCode.OK, output


@can_fork
@pytest.mark.parametrize(("variant", "mutant"), RUNS, ids=NAMES)
def test_with_a_defect_they_fail(
    run_tests: RunTests,
    variant: Variant,
    mutant: Mutant,
    record_property: Callable[[str, object], None],
) -> None:
    status, output = run_tests(variant, mutant.database, [mutant.test], mutant)
    # Not any exit status: a project that cannot even be imported proves nothing about its tests.
    assert status == pytest.ExitCode.TESTS_FAILED, (
        f"{mutant.promise}: nothing notices that {mutant.name}\n{output}"
    )
    # Nor one whose defect cannot even run, for it uses what the module has no longer.
    assert "NameError" not in output, output
    killers = re.findall(r"^(?:FAILED|ERROR) \S*?::(\w+)", output, re.MULTILINE)
    record_property("killed by", killers[0])


def test_every_run_has_a_name_of_its_own() -> None:
    assert len(set(NAMES)) == len(NAMES)


def test_two_defects_or_more_break_each_promise_in_every_processing() -> None:
    assert len(PROMISES) == 10
    for promise, variant in product(PROMISES, EVERYWHERE):
        defects = [each for each in MUTANTS if each.promise == promise and variant in each.variants]
        assert len(defects) >= 2, f"{variant}: {promise}"


def test_every_mutant_is_python(baked: Baked) -> None:
    for variant, mutant in RUNS:
        text = baked(variant).read(mutant.file)
        ast.parse(mutated(text, mutant))
        assert mutant.new != mutant.old
