"""What the handlers make of GitHub's events. Yours: `tests/conftest.py` says how to write them."""

import logging

import pytest
import sqlalchemy as sa

from app.services.board import board
from tests.delivery import Database, Deliver

pytestmark = pytest.mark.anyio


async def states(database: Database) -> dict[str, str]:
    """Return what is on the board."""
    return {row.subject: row.state for row in await database.rows(sa.select(board))}


@pytest.mark.parametrize(
    ("event_type", "subject", "state"),
    [
        ("pull_request.opened", "example-org/shop#12", "open"),
        ("pull_request.closed", "example-org/shop#12", "merged"),
        ("issues.opened", "example-org/shop#13", "open"),
        ("release.published", "example-org/shop v2.1.0", "published"),
        ("installation.created", "installation 997000001", "installed"),
        ("installation.deleted", "installation 997000001", "deleted"),
    ],
)
async def test_an_event_sets_the_state_of_its_subject(
    deliver: Deliver, database: Database, event_type: str, subject: str, state: str
) -> None:
    await deliver(event_type)

    assert await states(database) == {subject: state}


async def test_a_push_sets_the_commit_of_its_branch(deliver: Deliver, database: Database) -> None:
    await deliver("push", after="0123abcd")

    assert await states(database) == {"example-org/shop refs/heads/main": "0123abcd"}


async def test_a_pull_request_may_be_closed_without_a_merge(
    deliver: Deliver, database: Database
) -> None:
    await deliver("pull_request.closed", pull_request__merged=False)

    assert await states(database) == {"example-org/shop#12": "closed"}


@pytest.mark.parametrize(
    ("newer", "older", "state"),
    [
        ("pull_request.closed", "pull_request.opened", "merged"),
        ("installation.deleted", "installation.created", "deleted"),
    ],
)
async def test_an_older_state_does_not_replace_a_newer_one(
    deliver: Deliver, database: Database, newer: str, older: str, state: str
) -> None:
    await deliver(newer)
    await deliver(older)
    assert list((await states(database)).values()) == [state]


@pytest.mark.parametrize(
    ("older", "newer", "state"),
    [
        ("pull_request.opened", "pull_request.closed", "merged"),
        ("installation.created", "installation.deleted", "deleted"),
    ],
)
async def test_a_newer_state_replaces_an_older_one(
    deliver: Deliver, database: Database, older: str, newer: str, state: str
) -> None:
    await deliver(older)
    await deliver(newer)
    assert list((await states(database)).values()) == [state]


async def test_an_older_push_does_not_move_a_branch_back(
    deliver: Deliver, database: Database
) -> None:
    await deliver("push", after="newer", repository__pushed_at=1793459651)
    await deliver("push", after="older", repository__pushed_at=1793459650)

    assert list((await states(database)).values()) == ["newer"]


async def test_a_ping_is_logged(
    deliver: Deliver, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app")

    await deliver("ping")

    assert "webhook 292430182 is connected" in caplog.text
    assert await states(database) == {}


@pytest.mark.parametrize("event_type", ["push", "pull_request.opened", "issues.opened"])
async def test_no_personal_data_is_logged(
    deliver: Deliver, caplog: pytest.LogCaptureFixture, event_type: str
) -> None:
    caplog.set_level("DEBUG", "app")

    await deliver(event_type)

    assert "zoe" not in caplog.text
