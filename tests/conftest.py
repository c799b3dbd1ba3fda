import os
from collections.abc import Callable
from functools import cache

import pytest
from project import VARIANTS, Project, Variant, bake

Baked = Callable[[Variant], Project]


@pytest.fixture(scope="session")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Baked:
    """Generate each variant once. Tests only read these projects."""
    folder = tmp_path_factory.mktemp("baked")
    return cache(lambda variant: bake(folder / str(variant), **variant.answers))


@pytest.fixture(params=VARIANTS, ids=str)
def variant(request: pytest.FixtureRequest) -> Variant:
    chosen: Variant = request.param
    return chosen


@pytest.fixture
def project(variant: Variant, baked: Baked) -> Project:
    return baked(variant)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under REQUIRE_SERVICES=1 a skipped test is a failure, whatever it was skipped for."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("REQUIRE_SERVICES") == "1" and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
