"""The tests of a generated project can fail: each of these defects turns them red."""

import ast
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from conftest import Baked, Install
from live import DATABASES
from mutants import EVERYWHERE, MUTANTS, PROMISES, Mutant
from project import Variant, clean_environment

Copy = Callable[[Variant], Path]

PATIENCE = 240  # seconds, for a command that takes ten on an idle machine
ENVIRONMENT = ".venv"
RUNS = [(variant, mutant) for mutant in MUTANTS for variant in mutant.variants]
NAMES = [f"{variant}: {mutant.name}" for variant, mutant in RUNS]


@pytest.fixture
def copy(install: Install, tmp_path: Path) -> Copy:
    """Copy a variant, less its environment, which the copies share: they are quickly made."""

    def copy(variant: Variant) -> Path:
        leave_out = shutil.ignore_patterns(ENVIRONMENT, ".*_cache", ".coverage*")
        return Path(shutil.copytree(install(variant).path, tmp_path / "copy", ignore=leave_out))

    return copy


def run_tests(
    install: Install, folder: Path, variant: Variant, database: str, *tests: str
) -> subprocess.CompletedProcess[str]:
    python = install(variant).path / ENVIRONMENT / "bin" / "python"
    options = "-m pytest -x -q --no-cov --tb=short -p no:cacheprovider"
    with DATABASES[database](folder.parent) as made:
        return subprocess.run(
            [
                python,
                *options.split(),
                *(f"tests/{t.format(module=variant.module)}" for t in tests),
            ],
            cwd=folder,
            env=clean_environment(TEST_DATABASE_URL=made.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )


def mutated(text: str, mutant: Mutant) -> str:
    times = text.count(mutant.old)
    assert times == 1, f"{mutant.file} has this {times} times, not once:\n{mutant.old}"
    return text.replace(mutant.old, mutant.new)


@pytest.mark.parametrize(
    ("variant", "database"),
    sorted({(variant, mutant.database) for variant, mutant in RUNS}, key=str),
    ids=str,
)
def test_without_a_defect_they_pass(
    install: Install, copy: Copy, variant: Variant, database: str
) -> None:
    """Or it would mean nothing that they fail with one."""
    tests = {mutant.test for each, mutant in RUNS if (each, mutant.database) == (variant, database)}
    done = run_tests(install, copy(variant), variant, database, *sorted(tests))
    assert done.returncode == pytest.ExitCode.OK, done.stdout


@pytest.mark.parametrize(("variant", "mutant"), RUNS, ids=NAMES)
def test_with_a_defect_they_fail(
    install: Install,
    copy: Copy,
    variant: Variant,
    mutant: Mutant,
    record_property: Callable[[str, object], None],
) -> None:
    folder = copy(variant)
    file = folder / mutant.file
    file.write_text(mutated(file.read_text("utf-8"), mutant), "utf-8")
    done = run_tests(install, folder, variant, mutant.database, mutant.test)
    # Not any exit status: a project that cannot even be imported proves nothing about its tests.
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, (
        f"{mutant.promise}: nothing notices that {mutant.name}\n{done.stdout}"
    )
    # Nor one whose defect cannot even run, for it uses what the module has no longer.
    assert "NameError" not in done.stdout, done.stdout
    killers = re.findall(r"^(?:FAILED|ERROR) \S*?::(\w+)", done.stdout, re.MULTILINE)
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
