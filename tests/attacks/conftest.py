"""What the attacks share: a service with a handler of the test's own, running."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pytest
from conftest import Install
from live.databases import DATABASES, Database
from live.service import RECORDING, Service, Setup, project_with
from live.shared import BROKERS


class Run(Protocol):
    """Runs a service until the end of a `with`.

    Args:
        handler: The body of its handler.
        database: Where it keeps its events; an empty one of its own if not given.
        broker: The URL of its broker; a part of the shared one if not given.
        wrapper: A command by which the web processes are started.
        settings: Environment variables, beside those of `live.service.SHORT`.
    """

    def __call__(
        self,
        setup: Setup,
        handler: str = RECORDING,
        *,
        slug: str = "attacked",
        webs: int = 1,
        workers: int = 1,
        wrapper: str = "",
        database: Database | None = None,
        broker: str = "",
        settings: Mapping[str, str] = ...,
    ) -> AbstractContextManager[Service]: ...


@pytest.fixture
def run(install: Install, tmp_path: Path) -> Run:
    @contextmanager
    def run(
        setup: Setup,
        handler: str = RECORDING,
        *,
        slug: str = "attacked",
        webs: int = 1,
        workers: int = 1,
        wrapper: str = "",
        database: Database | None = None,
        broker: str = "",
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[Service]:
        folder = tmp_path / slug
        answers = {"processing": setup.processing, "project_slug": slug}
        project = project_with(handler, install, folder, **answers)
        with ExitStack() as stack:
            if database is None:
                database = stack.enter_context(DATABASES[setup.database](folder))
            if setup.broker and not broker:
                broker = stack.enter_context(BROKERS[setup.broker]())
            service = Service(
                project,
                setup.processing,
                database,
                broker,
                webs=webs,
                workers=workers,
                wrapper=wrapper,
                settings=settings,
            )
            yield stack.enter_context(service)

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.name == "nt":
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.skip(reason="Windows has no SIGKILL"))
