import os
import secrets
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol

import pytest
from filelock import FileLock
from project import VARIANTS, Project, Variant, bake
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# What takes longest comes first, or at the end one process would work and the others wait.
LONG = (
    *("test_readme", "test_variants", "test_flood", "test_outages", "test_poison", "test_kills"),
    *("test_live", "test_mutants"),
)
PORT_8000 = ("test_readme.py", "test_from_an_empty_folder", "test_the_next_steps_can_be_typed")

# The same in every process of the tests.
os.environ.setdefault("FUZZ_SEED", str(secrets.randbelow(2**32)))

Baked = Callable[[Variant], Project]
Install = Callable[[Variant], Project]


@pytest.fixture(scope="session")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Baked:
    """Generate each variant once. Tests only read these projects."""
    folder = tmp_path_factory.mktemp("baked")
    return cache(lambda variant: bake(folder / str(variant), **variant.answers))


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Generate a variant and install what it needs, once for all processes of the tests."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "installed"

    @cache
    def install(variant: Variant) -> Project:
        place = folder / str(variant)
        place.mkdir(parents=True, exist_ok=True)
        complete = place / "complete"
        with FileLock(place / "lock"):
            if not complete.exists():
                project = bake(place, **variant.answers)
                project.run("uv sync")
                project.run("uv run pytest --collect-only --quiet --no-cov")  # compiles all of it
                complete.write_text(str(project.path), encoding="utf-8")
        return Project(Path(complete.read_text(encoding="utf-8")))

    return install


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


def pytest_report_header() -> str:
    return f"FUZZ_SEED={os.environ['FUZZ_SEED']}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell which test of the generated project noticed which defect, and what was measured."""
    for report in terminalreporter.stats.get("passed", []):
        for killer in (value for name, value in report.user_properties if name == "killed by"):
            terminalreporter.write_line(f"{report.nodeid.partition('[')[2][:-1]} <- {killer}")
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


class OneAtATime(LoadScopeScheduling):  # type: ignore[misc]
    """Gives all tests that start a service on its usual port to the same process.

    And those that share a crowd of processes, which takes longer to start than they do.
    """

    def _split_scope(self, nodeid: str) -> str:
        if any(name in nodeid for name in PORT_8000):
            return "port 8000"
        return f"crowd {nodeid.partition('[')[2]}" if "test_crowds.py" in nodeid else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneAtATime:
    """Group by name, since the installed pytest-xdist does not see its own groups with pytest 9."""
    return OneAtATime(config, log)
