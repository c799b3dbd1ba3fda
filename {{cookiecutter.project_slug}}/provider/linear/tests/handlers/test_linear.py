"""What the handlers make of Linear's events. Yours: `tests/conftest.py` says how to write them."""

import pytest
import sqlalchemy as sa

from app.services.issues import issues
from tests.delivery import Database, Deliver

pytestmark = pytest.mark.anyio


async def state(database: Database) -> str:
    """Return the state of the only issue."""
    [issue] = await database.rows(sa.select(issues))
    return str(issue.state)


async def test_an_issue_from_its_creation_to_its_removal(
    deliver: Deliver, database: Database
) -> None:
    await deliver("Issue.create")
    assert await state(database) == "Todo"

    await deliver("Issue.update")
    assert await state(database) == "In Progress"

    await deliver("Issue.remove")
    assert await state(database) == "removed"


async def test_an_older_state_does_not_replace_a_newer_one(
    deliver: Deliver, database: Database
) -> None:
    await deliver("Issue.update")
    await deliver("Issue.create")

    assert await state(database) == "In Progress"


async def test_an_issue_that_was_removed_stays_removed(
    deliver: Deliver, database: Database
) -> None:
    await deliver("Issue.remove")
    await deliver("Issue.update")

    assert await state(database) == "removed"


async def test_no_personal_data_is_logged(
    deliver: Deliver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")

    await deliver("Issue.create")

    assert "zoe.mueller@example.com" not in caplog.text
