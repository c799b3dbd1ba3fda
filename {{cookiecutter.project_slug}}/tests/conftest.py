"""A database and a broker of the tests' own, and settings with which nobody has to wait long."""

import asyncio
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests import worker

FOLDER = Path(tempfile.mkdtemp(prefix="webhooks-"))
PROVIDERS = Path(__file__).parents[1] / "app" / "providers"

# Set before anything of the service is imported, which reads them once.
os.environ |= {
    "ENVIRONMENT": "development",
    "DATABASE_URL": os.environ.get("TEST_DATABASE_URL") or f"sqlite:///{FOLDER / 'inbox.db'}",
    "MAX_BODY_BYTES": "100000",
    "BODY_TIMEOUT_SECONDS": "0.5",
    "ACK_DEADLINE_SECONDS": "2",
    "CONCURRENCY": "4",
    "HANDLER_TIMEOUT_SECONDS": "1",
    "HANDOVER_SECONDS": "1",
    "MAX_ATTEMPTS": "3",
    "RETRY_BASE_SECONDS": "0.2",
    "RETRY_CAP_SECONDS": "10",
    "SWEEP_SECONDS": "0.1",
    "DRAIN_SECONDS": "5",
}
os.environ |= worker.environment(FOLDER)
for module in PROVIDERS.glob("*.py"):
    for variable in re.findall("[A-Z][A-Z_]*_WEBHOOKS?_SECRET", module.read_text("utf-8")):
        os.environ[variable] = "the-current-one,the-previous-one"

from fastapi.testclient import TestClient  # noqa: E402

from app import webhooks  # noqa: E402
from app.database import connect, create_schema, metadata  # noqa: E402
from app.inbox import Inbox  # noqa: E402
from app.main import app  # noqa: E402
from tests.support import Refusals, Store, kill, started  # noqa: E402


@pytest.fixture
def anyio_backend() -> str:
    """The asynchronous tests run on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(autouse=True)
def store() -> Iterator[Store]:
    """The database, empty, and a look into it that does not go through the service."""
    engine, handlers = connect()
    with engine.begin() as connection:
        create_schema(connection)
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
    yield Store(engine)
    engine.dispose()
    asyncio.run(handlers.dispose())


@pytest.fixture
def client() -> Iterator[TestClient]:
    """A client of the service, which runs in this process, relay and all."""
    with TestClient(app, follow_redirects=False) as client:
        yield client


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    """An inbox that no relay empties."""
    inbox = Inbox()
    yield inbox
    await inbox.close()


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    """The reasons of the refusals, as they are counted."""
    reasons: Refusals = []

    def count(amount: int, labels: dict[str, str]) -> None:
        reasons.extend([labels["reason"]] * amount)

    monkeypatch.setattr(webhooks.refused, "add", count)
    return reasons


@pytest.fixture(autouse=True)
def the_tests_outlive_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that ends within this process is not to end the process, however long it takes."""
    monkeypatch.setattr("app.main.end_within", lambda seconds: None)


@pytest.fixture(autouse=True)
def no_process_is_left(store: Store) -> Iterator[None]:
    """End what a test has started and, because it failed, not ended."""
    yield
    while started:
        process = started.pop()
        if process.poll() is None:
            kill(process)
