"""What the tests share: generated projects, environments to run them in, and the tiers.

The files in this folder are the tests that always run. The folders in it run with `--all`, or when
they are named.
"""

import os
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol

import pytest
from filelock import FileLock
from project import CHOICES, VARIANTS, Project, Variant, bake, run

TESTS = Path(__file__).parent

# These take longest, so they start first.
FIRST = ("test_variants", "test_updates")

Baked = Callable[[Variant], Project]
Install = Callable[[Variant], Project]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="also run the tests in folders of tests/")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave a folder out, unless `--all` is given, or the folder or something in it is named."""
    is_tier = collection_path.is_dir() and collection_path.parent == TESTS
    if not is_tier or config.getoption("--all"):
        return None
    named = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(collection_path) for path in named) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in FIRST)


@pytest.fixture(scope="session")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Baked:
    """Generate each variant once. Tests only read these projects."""
    folder = tmp_path_factory.mktemp("baked")
    return cache(lambda variant: bake(folder / str(variant), **variant.answers))


@pytest.fixture(scope="session")
def install(
    tmp_path_factory: pytest.TempPathFactory, baked: Baked, pytestconfig: pytest.Config
) -> Install:
    """Generate each variant once, in a virtual environment that has all it needs.

    The projects of one processing share an environment, which has the packages of all providers. It
    is kept between runs, and brought up to date at the beginning of each.
    """
    assert pytestconfig.cache
    environments = pytestconfig.cache.mkdir("environments")
    run_id = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
    folder = tmp_path_factory.mktemp("installed")

    @cache
    def environment(processing: str) -> Path:
        path = environments / processing
        last_run = path.with_suffix(".run")
        with FileLock(path.with_suffix(".lock")):
            is_current = run_id and last_run.exists() and last_run.read_text() == run_id
            if not is_current:
                project = bake(folder / processing, processing=processing)
                variants = [Variant(provider, processing) for provider in CHOICES["provider"]]
                packages = [name for each in variants for name in dependencies(baked(each))]
                run(["uv", "add", "--no-sync", *packages], project.path)
                project.run("uv sync", UV_PROJECT_ENVIRONMENT=str(path))
                last_run.write_text(run_id)
        return path

    @cache
    def installed(variant: Variant) -> Project:
        project = bake(folder / str(variant), **variant.answers)
        project.share_environment(environment(variant.processing))
        return project

    return installed


def dependencies(project: Project) -> list[str]:
    described = tomllib.loads(project.read("pyproject.toml"))
    return [*described["project"]["dependencies"], *described["dependency-groups"]["dev"]]


class Figures(Protocol):
    """Keeps what a test has measured for the summary, whether it passes or fails."""

    def __call__(self, **measured: object) -> None: ...


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    def keep(**measured: object) -> None:
        for name, value in measured.items():
            record_property("figure", f"{name.replace('_', ' ')} {value}")

    return keep


@pytest.fixture(params=VARIANTS, ids=str)
def variant(request: pytest.FixtureRequest) -> Variant:
    chosen: Variant = request.param
    return chosen


@pytest.fixture
def project(variant: Variant, baked: Baked) -> Project:
    return baked(variant)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            measured = [value for name, value in report.user_properties if name == "figure"]
            if measured:
                terminalreporter.write_line(f"{report.nodeid}: {', '.join(measured)}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under REQUIRE_SERVICES=1 a skipped test is a failure, whatever it was skipped for."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("REQUIRE_SERVICES") == "1" and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
