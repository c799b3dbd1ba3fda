"""Every variant passes its own tests and checks, run as its user types them. No server runs."""

import os
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import Baked, Install
from project import CHOICES, VARIANTS, Project, Variant, bake, package_name


@pytest.fixture
def installed(variant: Variant, install: Install) -> Project:
    return install(variant)


@pytest.mark.parametrize("processing", CHOICES["processing"])
def test_mypy_finds_nothing(processing: str, install: Install, pytestconfig: pytest.Config) -> None:
    # One provider after the other: what mypy learns about the libraries is the same for all.
    assert pytestconfig.cache
    cache = pytestconfig.cache.mkdir("mypy") / processing
    for provider in CHOICES["provider"]:
        project = install(Variant(provider, processing))
        project.run("uv run mypy", MYPY_CACHE_DIR=str(cache))


def test_its_tests_pass(installed: Project) -> None:
    installed.run("uv run pytest")


def test_ruff_finds_nothing(installed: Project) -> None:
    installed.run("uv run ruff check")


def test_ruff_would_format_nothing(installed: Project) -> None:
    installed.run("uv run ruff format --check --diff")


def test_only_warnings_about_the_user_s_own_code_are_errors(
    install: Install, tmp_path: Path
) -> None:
    project = bake(tmp_path)
    project.share_environment(install(VARIANTS[0]).environment)
    warn = "import warnings\n\n\ndef old() -> None:\n    warnings.warn('old', DeprecationWarning)\n"
    project.write("dependency.py", warn)
    project.write("app/services/mine.py", warn)
    project.write("tests/test_warnings.py", WARNINGS)
    project.run("uv run pytest tests/test_warnings.py")


WARNINGS = """
import dependency
import pytest
from app.services import mine


def test_warnings() -> None:
    dependency.old()
    with pytest.raises(DeprecationWarning):
        mine.old()
"""


PRINT_INSTALLED = """
from importlib.metadata import distribution

mine = distribution("my-webhooks")
print(*mine.requires, *[file for file in mine.files if ".dist-info" not in str(file)], sep="\\n")
"""


def test_pip_installs_what_a_project_depends_on_and_nothing_else(tmp_path: Path) -> None:
    project = bake(tmp_path)
    project.write("another_folder/__init__.py", "")
    project.run(f"'{sys.executable}' -m venv .venv")
    python = ".venv/Scripts/python" if os.name == "nt" else ".venv/bin/python"
    project.run(f"{python} -m pip install --no-deps .")
    installed = project.run(f"{python} -I -c '{PRINT_INSTALLED}'").splitlines()
    declared = tomllib.loads(project.read("pyproject.toml"))["project"]["dependencies"]
    assert sorted(map(package_name, installed)) == sorted(map(package_name, declared))


def test_working_on_a_project_leaves_nothing_for_git_but_the_lock_file(
    install: Install, baked: Baked, tmp_path: Path
) -> None:
    project = install(VARIANTS[0])
    project.run("uv run pytest --collect-only --quiet")
    project.run("uv run ruff check")
    git = f"git --git-dir {tmp_path}/git --work-tree {project.path}"
    project.run(f"{git} init --quiet")
    untracked = project.run(f"{git} ls-files --others --exclude-standard").splitlines()
    generated = set(baked(VARIANTS[0]).files) - {".env"}
    assert set(untracked) - {".venv"} == generated | {"uv.lock"}
