"""Every variant, handled as its user would, in its own environment."""

from collections.abc import Callable

import pytest
from project import VARIANTS, Project, Variant
from services import POSTGRESQL


@pytest.fixture(
    params=[
        # One worker takes all tests of a variant: its environment is built once.
        pytest.param(variant, id=str(variant), marks=pytest.mark.xdist_group(str(variant)))
        for variant in VARIANTS
    ]
)
def installed(request: pytest.FixtureRequest, install: Callable[[Variant], Project]) -> Project:
    return install(request.param)


def test_ruff_finds_nothing(installed: Project) -> None:
    installed.run("uv run ruff check")


def test_ruff_format_changes_nothing(installed: Project) -> None:
    installed.run("uv run ruff format --check --diff")


def test_mypy_strict_finds_nothing(installed: Project) -> None:
    installed.run("uv run mypy")


def test_its_tests_pass(installed: Project) -> None:
    installed.run("uv run pytest")


def test_its_tests_pass_on_postgresql(installed: Project) -> None:
    installed.run("uv run pytest", TEST_POSTGRES_URL=POSTGRESQL.require())


def test_working_on_it_leaves_nothing_in_git_but_the_lock_file(
    installed: Project, baked: Callable[[Variant], Project], request: pytest.FixtureRequest
) -> None:
    generated = set(baked(request.node.callspec.params["installed"]).files)
    installed.run("git -c init.defaultBranch=main init --quiet")
    untracked = installed.run("git ls-files --others --exclude-standard").splitlines()
    assert set(untracked) == generated - {".env"} | {"uv.lock"}
