"""The environment of the tests, and two fixtures for tests of your handlers.

    import pytest
    import sqlalchemy as sa

    from app.services.billing import subscriptions
    from tests.delivery import Database, Deliver

    pytestmark = pytest.mark.anyio

    async def test_a_paid_invoice_activates(deliver: Deliver, database: Database) -> None:
        await deliver("invoice.paid", data__object__amount_paid=1)

        [subscription] = await database.rows(sa.select(subscriptions))
        assert subscription.status == "active"

`deliver` takes the sample `tests/fixtures/<provider>/invoice.paid.json`, sets the fields that are
named by their path, signs it and posts it to `app.main:app`. It returns the event's id when the
handler is done. If the handler fails, it raises `HandlerFailed` with the traceback. Two more
arguments are optional: `event_id="evt_1"` to deliver an event twice, and `endpoint="other"` if
several endpoints have such a sample.

`database` is empty when a test begins. It is SQLite in a temporary folder, or the database named by
TEST_DATABASE_URL, whose tables are emptied.

No server, broker or worker takes part.
"""

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from dotenv import dotenv_values
from sqlalchemy.engine.interfaces import DBAPIConnection

ROOT = Path(__file__).parents[1]
FOLDER = Path(tempfile.mkdtemp(prefix="webhooks-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

# Set before the service is imported, because it reads the environment once.
os.environ["ENVIRONMENT"] = "development"
os.environ["DATABASE_URL"] = os.environ.get("TEST_DATABASE_URL") or f"sqlite:///{FOLDER}/inbox.db"
if broker := dotenv_values(ROOT / ".env.example").get("BROKER_URL"):
    os.environ["BROKER_URL"] = broker  # any will do: nothing connects to it
for variable in re.findall(r'"(\w+_SECRETS?)"', (ROOT / "app/endpoints.py").read_text("utf-8")):
    os.environ[variable] = "whsec_dGhlLXNlY3JldC1vZi10aGUtdGVzdHMh"

from app.database import is_sqlite, metadata  # noqa: E402
from app.inbox.engines import create_engine  # noqa: E402
from app.schema import migrate  # noqa: E402
from tests.delivery import Database, Deliver, NoQueue, running  # noqa: E402


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests that are `async def` run on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def engine() -> Iterator[sa.Engine]:
    """The tests' own connections to the database. The revisions make its schema."""
    migrate()
    engine = create_engine()
    if is_sqlite:
        sa.event.listen(engine, "connect", do_not_wait_for_the_disk)
    if missing := set(metadata.tables) - set(sa.inspect(engine).get_table_names()):
        names = ", ".join(sorted(missing))
        pytest.exit(f'no revision makes {names}: alembic revision --autogenerate -m "{names}"', 1)
    yield engine
    engine.dispose()


def do_not_wait_for_the_disk(connection: DBAPIConnection, _: object) -> None:
    connection.cursor().execute("PRAGMA synchronous = OFF")


@pytest.fixture
def database(engine: sa.Engine) -> Database:
    """The database, emptied."""
    database = Database(engine)
    database.empty()
    return database


@pytest.fixture
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempt an event only when a test asks for it."""
    monkeypatch.setattr("app.processing.dispatcher.Queue", NoQueue)


@pytest.fixture
async def deliver(database: Database, no_queue: None) -> AsyncIterator[Deliver]:
    """Deliver samples to `app.main:app`, and wait until they are handled."""
    from app.endpoints import endpoints
    from app.main import app

    async with running(app) as service:
        yield Deliver(service, endpoints, database)
