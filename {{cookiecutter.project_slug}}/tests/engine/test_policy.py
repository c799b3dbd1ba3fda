"""What an endpoint sets for its own events: attempts, waits, time-outs, and how many at a time."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from app.events import Event, RetryAfter
from app.inbox.inbox import Claim, Inbox, Reference, lease_seconds
from app.inbox.table import webhook_events
from app.processing.attempt import attempt, attempt_reference
from app.processing.policy import policy_of
from app.settings import settings
from app.webhooks.endpoint import Endpoint, Handler, by_name
from tests.delivery import Database
from tests.engine.service import delivery, endpoint
from tests.engine.store import make_due, stored

pytestmark = pytest.mark.anyio

SLOTS = 2


async def succeed(event: Event) -> None:
    """Do nothing."""


async def fail(event: Event) -> None:
    raise ValueError


async def never_end(event: Event) -> None:
    await asyncio.Event().wait()


async def ask_for_an_hour(event: Event) -> None:
    raise RetryAfter(3600)


LIMITED = by_name([replace(endpoint(), concurrency=SLOTS), endpoint(name="other")])


@pytest.fixture
async def limited(database: Database) -> AsyncIterator[Inbox]:
    """An inbox in which the endpoint "test" has two slots, and "other" has no limit."""
    inbox = Inbox(LIMITED)
    await inbox.open()
    yield inbox
    await inbox.close()


@pytest.fixture
async def another(database: Database) -> AsyncIterator[Inbox]:
    """The same in another process."""
    inbox = Inbox(LIMITED)
    await inbox.open()
    yield inbox
    await inbox.close()


async def fill(inbox: Inbox, count: int, endpoint: str = "test") -> None:
    """Add events, one after another."""
    for number in range(count):
        await inbox.add(endpoint, delivery(f"{endpoint}_{number}"))


async def try_at(inbox: Inbox, database: Database, chosen: Endpoint) -> None:
    """Attempt the only event, due or not."""
    await make_due(database)
    [claim] = await inbox.claim_due(1)
    await attempt(inbox, by_name([chosen]), claim)


# Attempts, waits and time-outs


async def test_an_endpoint_can_have_its_own_number_of_attempts(
    inbox: Inbox, database: Database
) -> None:
    await inbox.add("test", delivery())
    patient = replace(endpoint(fail), max_attempts=settings.max_attempts + 2)

    for _ in range(settings.max_attempts + 1):
        await try_at(inbox, database, patient)
        assert (await stored(database)).state == "pending"
    await try_at(inbox, database, patient)

    assert (await stored(database)).state == "dead"


@pytest.mark.parametrize(
    ("handler", "own", "shortest", "longest"),
    [
        (fail, {"retry_base_seconds": 400}, 200, 400),
        (fail, {"retry_cap_seconds": 4}, 2, 4),
        (ask_for_an_hour, {"retry_cap_seconds": 5000}, 3600, 3600),
        (ask_for_an_hour, {"retry_cap_seconds": 4}, 4, 4),
    ],
)
async def test_an_endpoint_can_have_its_own_waits(
    inbox: Inbox,
    database: Database,
    handler: Handler,
    own: dict[str, float],
    shortest: float,
    longest: float,
) -> None:
    await inbox.add("test", delivery())

    await try_at(inbox, database, replace(endpoint(handler), **own))  # type: ignore[arg-type]

    wait = (await stored(database)).due_at - time.time()
    assert shortest - 1 < wait <= longest


async def test_an_endpoint_can_have_its_own_time_out(inbox: Inbox, database: Database) -> None:
    await inbox.add("test", delivery())

    async with asyncio.timeout(1):
        await try_at(inbox, database, replace(endpoint(never_end), handler_timeout_seconds=0.05))

    assert "the handler took longer than" in (await stored(database)).error


async def test_what_an_endpoint_does_not_set_is_as_the_settings_say() -> None:
    assert policy_of(endpoint()) == policy_of(None)
    assert policy_of(endpoint()).max_attempts == settings.max_attempts


@pytest.mark.parametrize("by_message", [False, True])
async def test_a_lease_is_as_long_as_the_time_out_of_its_endpoint_needs(
    database: Database, by_message: bool
) -> None:
    slow = replace(endpoint(name="slow"), handler_timeout_seconds=5000)
    slower = replace(endpoint(name="slower"), handler_timeout_seconds=90_000)
    inbox = Inbox(by_name([slow, slower, endpoint()]))
    for name in ("slow", "slower", "test"):
        await inbox.add(name, delivery(name))
    if by_message:
        for reference in await inbox.dispatch_due():
            await inbox.claim(reference)
    else:
        await inbox.claim_due(3)
    await inbox.close()

    for chosen, name in ((slow, "slow"), (slower, "slower"), (None, "test")):
        lease = (await stored(database, name)).due_at - time.time()
        assert lease_seconds(chosen) - 1 < lease < lease_seconds(chosen) * 1.5 + 1
    assert lease_seconds(slow) > 5000


# Slots


def names(claims: list[Claim]) -> list[str]:
    return sorted(claim.event_id for claim in claims)


async def test_an_endpoint_can_limit_how_many_events_are_claimed_at_a_time(limited: Inbox) -> None:
    await fill(limited, 5)

    first, second = await limited.claim_due(10), await limited.claim_due(10)

    assert names(first) == ["test_0", "test_1"]
    assert second == []


async def test_what_has_no_slot_holds_up_no_other_endpoint(limited: Inbox) -> None:
    await fill(limited, 5)
    await fill(limited, 3, endpoint="other")

    assert names(await limited.claim_due(4)) == ["other_0", "other_1", "test_0", "test_1"]
    assert names(await limited.claim_due(4)) == ["other_2"]


async def test_the_longest_due_are_claimed_first_whatever_their_endpoint(limited: Inbox) -> None:
    await fill(limited, 3, endpoint="other")
    await fill(limited, 3)

    assert names(await limited.claim_due(2)) == ["other_0", "other_1"]


async def test_processes_share_the_slots(limited: Inbox, another: Inbox) -> None:
    await fill(limited, 10)

    taken = await asyncio.gather(
        *(each.claim_due(1) for _ in range(4) for each in (limited, another))
    )

    assert 0 < len([claim for claims in taken for claim in claims]) <= SLOTS
    claims = await limited.claim_due(10) + await another.claim_due(10)
    assert len([claim for each in taken for claim in each] + claims) == SLOTS


@pytest.mark.parametrize("how", ["complete", "retry", "bury", "release", "transaction", "expiry"])
async def test_a_slot_is_free_again_however_the_attempt_ends(
    limited: Inbox, database: Database, how: str
) -> None:
    await fill(limited, 3)
    claims = {claim.event_id: claim for claim in await limited.claim_due(10)}
    claim = claims["test_0"]
    if how == "complete":
        await limited.complete(claim)
    elif how == "retry":
        await limited.retry(claim, 100, "an error")
    elif how == "bury":
        await limited.bury(claim, "an error")
    elif how == "release":
        await limited.release(claim, 100)
    elif how == "transaction":
        async with limited.transaction(claim):
            pass
    else:  # its process died
        expired = sa.update(webhook_events).where(webhook_events.c.id == claim.id)
        await database.execute(expired.values(due_at=1e9))

    [following] = await limited.claim_due(10)

    assert following.event_id == ("test_0" if how == "expiry" else "test_2")


async def test_no_more_is_dispatched_than_has_a_slot(limited: Inbox) -> None:
    await fill(limited, 5)
    await fill(limited, 3, endpoint="other")

    first, second = await limited.dispatch_due(), await limited.dispatch_due()

    assert (len(first), second) == (SLOTS + 3, [])
    claims = [await limited.claim(reference) for reference in first]
    assert names([claim for claim in claims if claim]) == [
        "other_0",
        "other_1",
        "other_2",
        "test_0",
        "test_1",
    ]
    assert await limited.dispatch_due() == []


async def test_a_message_that_could_not_be_published_gives_its_slot_back(limited: Inbox) -> None:
    await fill(limited, 3)
    references = await limited.dispatch_due()

    await limited.undispatch(references)

    assert len(references) == len(await limited.dispatch_due()) == SLOTS


async def test_a_message_that_came_too_late_has_lost_its_slot(
    limited: Inbox, database: Database
) -> None:
    """Or two of them could be handled at a time, where there is one slot."""
    await fill(limited, 1)
    [late] = await limited.dispatch_due()
    await make_due(database)

    assert await limited.claim(late) is None
    [again] = await limited.dispatch_due()
    assert await limited.claim(again)


async def test_a_worker_goes_on_with_an_endpoint_while_nobody_else_has_its_slot(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dispatcher may take POLL_INTERVAL_SECONDS to notice that a slot is free."""
    monkeypatch.setattr(settings, "poll_interval_seconds", 10)
    most = running = 0
    handled = []

    async def count(event: Event) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        handled.append(event.id)

    endpoints = by_name([replace(endpoint(count), concurrency=SLOTS)])
    inbox = Inbox(endpoints)
    await fill(inbox, 10)

    references = await inbox.dispatch_due()
    await asyncio.gather(*(attempt_reference(inbox, endpoints, each) for each in references))
    await inbox.close()

    assert len(references) == most == SLOTS
    assert len(handled) == 10


async def test_a_worker_that_ends_gives_back_what_it_has_just_gone_on_with(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "poll_interval_seconds", 10)
    begun = asyncio.Event()

    async def stay_with_the_second(event: Event) -> None:
        if event.id == "test_1":
            begun.set()
            await asyncio.Event().wait()

    endpoints = by_name([replace(endpoint(stay_with_the_second), concurrency=1)])
    inbox = Inbox(endpoints)
    await fill(inbox, 3)
    [reference] = await inbox.dispatch_due()
    task = asyncio.create_task(attempt_reference(inbox, endpoints, reference))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    await inbox.close()

    row = await stored(database, "test_1")
    assert (row.state, row.failures) == ("pending", 0)
    assert row.due_at <= time.time()


async def test_an_endpoint_without_a_limit_is_left_when_its_message_is_done(
    inbox: Inbox, database: Database
) -> None:
    await fill(inbox, 2)
    first, _ = await inbox.dispatch_due()

    await attempt_reference(inbox, by_name([endpoint(succeed)]), Reference(*first))

    rows = await database.rows(sa.select(webhook_events.c.state))
    assert sorted(row.state for row in rows) == ["done", "pending"]
