"""The inspector: who may see what, what the pages show, and what a replay leaves on record."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import pytest
import sqlalchemy as sa

from app.inbox.inbox import Inbox
from app.inbox.table import webhook_events, webhook_replays
from app.inspector import overview, queries, sessions
from app.inspector.pages import COOKIE, inspector_router
from app.inspector.sessions import from_cookie, to_cookie
from app.inspector.settings import InspectorSettings, settings
from app.settings import load
from app.settings import settings as engine_settings
from tests.delivery import Database, Service, running
from tests.engine.service import application, delivery
from tests.engine.store import make_due, stored

pytestmark = pytest.mark.anyio

PASSWORD = "correct horse battery"
READ_PASSWORD = "staple for reading"
HOSTILE = '<script>alert("x")</script>'
TRACEBACK = """Traceback (most recent call last):
  File "app/handlers/orders.py", line 1, in handle
    raise ValueError
"""
SECRET = "4242-only-after-log-in"


@pytest.fixture(autouse=True)
def passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "password", PASSWORD)
    monkeypatch.setattr(settings, "read_password", READ_PASSWORD)


@pytest.fixture
async def service(database: Database, passwords: None) -> AsyncIterator[Service]:
    """The service of the tests, with the inspector."""
    app = application()
    app.include_router(inspector_router())
    async with running(app) as service:
        yield service


@pytest.fixture
def client(service: Service) -> httpx2.AsyncClient:
    """A browser that is not logged in."""
    return service.client


@pytest.fixture
async def viewer(client: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """A browser that may replay."""
    assert (await log_in(client)).status_code == 303
    return client


@pytest.fixture
async def events(inbox: Inbox) -> None:
    """The events evt_0, which is done, evt_1, which is dead, and evt_2, which is pending."""
    for number, event_type in enumerate(["order.paid", "order.failed", HOSTILE]):
        sent = delivery(f"evt_{number}", event_type, text=SECRET + HOSTILE)
        await inbox.add("test", replace(sent, headers={"X-Kept": HOSTILE}))
    first, second = sorted(await inbox.claim_due(2), key=lambda claim: claim.id)
    await inbox.complete(first)
    await inbox.bury(second, TRACEBACK + f"ValueError: {HOSTILE}")


async def log_in(
    client: httpx2.AsyncClient, password: str = PASSWORD, name: str = "Zoë"
) -> httpx2.Response:
    return await client.post("/inspector/login", data={"name": name, "password": password})


async def text(client: httpx2.AsyncClient, path: str) -> str:
    """Return a page."""
    answer = await client.get(f"/inspector{path}")
    assert answer.status_code == 200, answer.text
    return answer.text


def token(client: httpx2.AsyncClient) -> str:
    """Return what the forms of this session hold."""
    return sessions.csrf_token(client.cookies[COOKIE])


async def replay(client: httpx2.AsyncClient, **fields: object) -> httpx2.Response:
    data = {"csrf": token(client), "scope": "selected", **fields}
    return await client.post("/inspector/replay", data=data)


def listed(page: str) -> list[str]:
    """Return the ids of the events on a page."""
    return re.findall(r'<span class="id">([^<]*)</span>', page)


async def id_of(database: Database, event_id: str) -> int:
    return int((await stored(database, event_id)).id)


# Who may see what


async def test_without_a_password_there_is_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "password", None)
    app = application()
    app.include_router(inspector_router())

    async with running(app) as service:
        for path in ("", "/login", "/events", "/events/1", "/static/inspector.js"):
            assert (await service.client.get(f"/inspector{path}")).status_code == 404
        assert (await log_in(service.client)).status_code == 404


@pytest.mark.parametrize(
    ("passwords", "problem"),
    [
        ({"PASSWORD": "too short"}, "INSPECTOR_PASSWORD: must have at least 12 characters"),
        ({"PASSWORD": "change_me_please"}, "INSPECTOR_PASSWORD: is still a placeholder"),
        ({"READ_PASSWORD": READ_PASSWORD}, "INSPECTOR_READ_PASSWORD: needs INSPECTOR_PASSWORD"),
        (
            {"PASSWORD": PASSWORD, "READ_PASSWORD": PASSWORD},
            "INSPECTOR_READ_PASSWORD: must differ from INSPECTOR_PASSWORD",
        ),
    ],
)
def test_a_password_that_cannot_be_used_refuses_the_start(
    monkeypatch: pytest.MonkeyPatch, passwords: dict[str, str], problem: str
) -> None:
    monkeypatch.setitem(InspectorSettings.model_config, "env_file", None)
    for name in ("PASSWORD", "READ_PASSWORD"):
        monkeypatch.setenv(f"INSPECTOR_{name}", passwords.get(name, ""))

    with pytest.raises(SystemExit) as refusal:
        load(InspectorSettings)

    assert str(refusal.value).startswith(problem)
    assert not any(password in str(refusal.value) for password in passwords.values())


@pytest.mark.usefixtures("events")
async def test_nothing_is_shown_before_the_log_in(
    client: httpx2.AsyncClient, database: Database
) -> None:
    event = await id_of(database, "evt_0")
    client.cookies.set(COOKIE, to_cookie(sessions.Session("x", True, 2e9))[:-1] + "x")
    for path in ("", "/events", f"/events/{event}", f"/events/{event}/payload"):
        answer = await client.get(f"/inspector{path}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/inspector/login")
        assert SECRET not in answer.text
    answer = await client.post("/inspector/replay", data={"event": event, "confirmed": "yes"})
    assert answer.status_code == 303
    assert (await stored(database, "evt_0")).state == "done"


async def test_a_wrong_password_or_no_name_begins_no_session(client: httpx2.AsyncClient) -> None:
    for password in ("", "wrong", PASSWORD[:-1], "ünïcödé", READ_PASSWORD + " "):
        answer = await log_in(client, password)
        assert (answer.status_code, answer.cookies.get(COOKIE)) == (401, None)
    for name in (" ", "a\nb"):
        assert (await log_in(client, name=name)).status_code in (422, 429)


async def test_only_so_many_passwords_can_be_tried(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(sessions.MAX_FAILURES_OF_ONE):
        assert (await log_in(client, "wrong")).status_code == 401
    assert (await log_in(client)).status_code == 429

    monkeypatch.setattr(sessions, "WINDOW_SECONDS", 0)
    assert (await log_in(client)).status_code == 303


def test_passwords_that_are_tried_from_everywhere_are_limited_too() -> None:
    throttle = sessions.Throttle()
    for number in range(sessions.MAX_FAILURES):
        assert not throttle.is_closed(f"192.0.2.{number}")
        throttle.count_failure(f"192.0.2.{number}")
    assert throttle.is_closed("198.51.100.1")


async def test_the_cookie_is_for_this_site_alone_and_no_script_sees_it(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for environment, secure in (("production", True), ("development", False)):
        monkeypatch.setattr(engine_settings, "environment", environment)

        cookie = (await log_in(client)).headers["set-cookie"]

        attributes = {part.strip().lower() for part in cookie.split(";")}
        assert {"httponly", "samesite=strict", "path=/inspector"} <= attributes
        assert ("secure" in attributes) == secure


def test_a_session_ends_by_its_time_and_with_its_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    session = sessions.Session("Zoë", True, time.time() + 60)
    expired = to_cookie(replace(session, expires_at=time.time() - 1))
    cookie = to_cookie(session)

    assert from_cookie(cookie) == session
    assert from_cookie(expired) is None
    monkeypatch.setattr(settings, "read_password", None)
    assert from_cookie(cookie) is None


async def test_who_logs_out_is_forgotten(viewer: httpx2.AsyncClient) -> None:
    answer = await viewer.post("/inspector/logout", data={"csrf": token(viewer)})

    assert answer.headers["location"] == "/inspector/login"
    assert (await viewer.get("/inspector")).status_code == 303


@pytest.mark.usefixtures("events")
async def test_a_change_needs_a_token_of_the_session(
    viewer: httpx2.AsyncClient, database: Database
) -> None:
    event = await id_of(database, "evt_1")
    assert f'name="csrf" value="{token(viewer)}"' in await text(viewer, f"/events/{event}")
    other = sessions.csrf_token(to_cookie(sessions.Session("other", True, 2e9)))
    for csrf in ("", "x" * 64, other):
        data = {"csrf": csrf, "event": str(event), "confirmed": "yes"}
        assert (await viewer.post("/inspector/replay", data=data)).status_code == 403
    assert (await viewer.post("/inspector/logout")).status_code == 403
    assert (await viewer.post("/inspector/logout", content=b"a=1&" * 1000)).status_code == 400
    assert (await stored(database, "evt_1")).state == "dead"


@pytest.mark.usefixtures("events")
async def test_who_may_only_read_cannot_replay(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await log_in(client, READ_PASSWORD)
    event = await id_of(database, "evt_1")

    assert SECRET in await text(client, f"/events/{event}")
    assert "inspector/replay" not in await text(client, f"/events/{event}")
    assert (await replay(client, event=event, confirmed="yes")).status_code == 403
    assert (await stored(database, "evt_1")).state == "dead"


@pytest.mark.usefixtures("events")
async def test_pages_run_nothing_that_came_from_outside(
    viewer: httpx2.AsyncClient, database: Database
) -> None:
    event = await id_of(database, "evt_1")
    for path in ("", "/events", f"/events/{event}", "/events?" + "type=" + HOSTILE):
        answer = await viewer.get(f"/inspector{path}")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert HOSTILE not in answer.text
        assert "&lt;script&gt;" in answer.text
        assert re.search(r"\sstyle=|\son\w+=|<script>", answer.text) is None
        assert answer.headers["cache-control"] == "no-store"


async def test_style_and_script_are_the_projects_own(viewer: httpx2.AsyncClient) -> None:
    page = await text(viewer, "")
    files = re.findall(r'(?:src|href)="(/inspector/static/[^"]+)"', page)

    assert len(files) == 3
    for file in files:
        assert (await viewer.get(file)).status_code == 200
    assert re.findall(r'(?:src|href|action)="(?!/inspector|#)', page) == []
    assert (await viewer.get("/inspector/static/pages.py")).status_code == 422


# What is shown


@pytest.mark.usefixtures("events")
async def test_the_overview_counts_what_happened(
    viewer: httpx2.AsyncClient, inbox: Inbox, database: Database
) -> None:
    [claim] = await inbox.claim_due(1)
    await inbox.retry(claim, 0, "OSError: away")
    await make_due(database)

    with database.engine.connect() as connection:
        seen = overview.look(connection)

    for charts in seen.charts.values():
        totals = {what: sum(number for _, number in bars) for what, bars in charts.items()}
        assert totals == {"received": 3, "handled": 1, "failed": 1, "dead": 1}
        assert len(charts["received"]) in (60, 24)
    assert (seen.due, seen.waiting, seen.covers_since) == (1, 0, None)
    assert seen.oldest is not None
    assert seen.oldest.id == claim.id
    assert seen.dead == [("order.failed", f"ValueError: {HOSTILE}", 1)]
    assert [row.event_type for row in seen.slowest] == ["order.paid"]
    assert "3 in all" in await text(viewer, "")


@pytest.mark.usefixtures("events")
async def test_the_overview_says_what_it_does_not_cover(
    viewer: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "cover the newest" not in await text(viewer, "")

    monkeypatch.setattr(overview, "WINDOW", 2)
    page = await text(viewer, "")

    assert "cover the newest" in page
    assert "2 in all" in page

    first = webhook_events.c.event_id == "evt_0"
    await database.execute(sa.delete(webhook_events).where(first))
    assert "cover the newest" not in await text(viewer, "")  # there is none before


FOUND = {
    "": ["evt_2", "evt_1", "evt_0"],
    "state=&type=&endpoint=&id=&since=": ["evt_2", "evt_1", "evt_0"],
    "state=dead": ["evt_1"],
    "state=pending": ["evt_2"],
    "state=done": ["evt_0"],
    "state=pruned": [],
    "type=order.paid": ["evt_0"],
    "type=order.paid&state=dead": [],
    "endpoint=test&type=order.failed": ["evt_1"],
    "endpoint=other": [],
    "id=evt_0": ["evt_0"],
    "since=2020-01-01T00:00": ["evt_2", "evt_1", "evt_0"],
    "since=2999-01-01T00:00": [],
}


@pytest.mark.usefixtures("events")
async def test_events_are_filtered(viewer: httpx2.AsyncClient) -> None:
    for query, found in FOUND.items():
        assert listed(await text(viewer, f"/events?{query}")) == found, query


async def test_a_filter_that_cannot_be_used_is_refused(viewer: httpx2.AsyncClient) -> None:
    for query in ("state=x", "type=%00", "since=x", "before=x", f"before={2**64}"):
        assert (await viewer.get(f"/inspector/events?{query}")).status_code == 422, query
        name, _, value = query.replace("%00", "\0").partition("=")
        assert (await replay(viewer, **{name: value})).status_code == 422, query


async def test_pages_follow_each_other_also_where_the_filter_finds_nothing(
    viewer: httpx2.AsyncClient, inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAGE", 2)
    monkeypatch.setattr(queries, "WINDOW", 4)
    monkeypatch.setattr(queries, "SCATTERED", 4)
    for number in range(7):
        await inbox.add("test", delivery(f"evt_{number}", "rare" if number == 0 else "usual"))

    pages = [["evt_6", "evt_5"], ["evt_4", "evt_3"], ["evt_2", "evt_1"], ["evt_0"]]
    assert await followed(viewer, "") == pages
    assert await followed(viewer, "type=rare") == [[], ["evt_0"]]
    assert await followed(viewer, "state=pending&type=rare") == [["evt_0"]]

    dead = {"state": "dead", "due_at": None}
    await database.execute(sa.update(webhook_events).values(**dead))
    assert await followed(viewer, "state=dead") == pages
    assert await followed(viewer, "state=dead&type=rare") == [[], ["evt_0"]]


async def followed(viewer: httpx2.AsyncClient, query: str) -> list[list[str]]:
    """Return what the pages list, from the first to the last."""
    found = []
    while True:
        page = await text(viewer, f"/events?{query}")
        found.append(listed(page))
        older = re.search(r'href="/inspector/events\?([^"]*)" rel="next"', page)
        if older is None or len(found) > 9:
            return found
        query = older[1].replace("&amp;", "&")


@pytest.mark.usefixtures("events")
async def test_an_event_is_shown_with_life_headers_payload_and_curl(
    viewer: httpx2.AsyncClient, database: Database
) -> None:
    event = await id_of(database, "evt_1")

    page = await text(viewer, f"/events/{event}")

    for words in ("attempt 1", "ValueError", "X-Kept", SECRET, "curl --request POST", "***"):
        assert words in page
    payload = await viewer.get(f"/inspector/events/{event}/payload")
    assert payload.content == (await stored(database, "evt_1")).payload
    assert payload.headers["content-disposition"].startswith("attachment")


async def test_any_payload_can_be_shown(
    viewer: httpx2.AsyncClient, inbox: Inbox, database: Database
) -> None:
    payloads = [b"\xff\x00", b"[" * 100_000, b'"\\ud800"', b"", b"9" * 5000]
    for number, payload in enumerate(payloads):
        await inbox.add("test", replace(delivery(f"evt_{number}"), payload=payload))
        await text(viewer, f"/events/{await id_of(database, f'evt_{number}')}")


async def test_an_event_that_is_not_there_is_not_shown(viewer: httpx2.AsyncClient) -> None:
    for event, status in (("0", 422), ("99", 404), (str(2**63), 422)):
        assert (await viewer.get(f"/inspector/events/{event}")).status_code == status


# Replays


@pytest.mark.usefixtures("events")
async def test_a_dead_event_is_replayed_and_that_is_on_record(
    viewer: httpx2.AsyncClient, database: Database
) -> None:
    event = await id_of(database, "evt_1")

    answer = await replay(viewer, event=event, confirmed="yes")

    assert answer.headers["location"] == f"/inspector/events/{event}?replayed=1"
    assert (await stored(database, "evt_1")).state == "pending"
    [record] = await database.rows(sa.select(webhook_replays))
    assert (record.event, record.replayed_by) == (event, "Zoë (inspector)")
    assert "by Zoë (inspector)" in await text(viewer, f"/events/{event}")


@pytest.mark.usefixtures("events")
async def test_a_replay_of_a_handled_event_is_confirmed_twice(
    viewer: httpx2.AsyncClient, database: Database
) -> None:
    event = await id_of(database, "evt_0")

    for confirmed in ({}, {"confirmed": "yes"}, {"repeat": "yes"}):
        answer = await replay(viewer, event=event, **confirmed)
        assert "Repeat the effects of 1" in answer.text
        assert (await stored(database, "evt_0")).state == "done"

    assert (await replay(viewer, event=event, confirmed="yes", repeat="yes")).status_code == 303
    assert (await stored(database, "evt_0")).state == "pending"


@pytest.mark.usefixtures("events")
async def test_all_that_the_filter_shows_is_counted_first_and_then_replayed(
    viewer: httpx2.AsyncClient, inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "REPLAY_BATCH", 1)
    monkeypatch.setattr(queries, "REPLAY_PAUSE_SECONDS", 0)
    last = await id_of(database, "evt_2")
    shown = {"scope": "all", "endpoint": "test", "before": last + 1}
    await inbox.add("test", delivery("evt_3"))  # since the page was shown
    done = {"state": "done", "due_at": None}
    is_new = webhook_events.c.id >= last
    await database.execute(sa.update(webhook_events).where(is_new).values(**done))

    counted = await replay(viewer, **shown)
    assert "<strong>3</strong> would be handled again" in counted.text
    assert "1 of them are dead, and 2 were handled before" in " ".join(counted.text.split())
    assert await database.rows(sa.select(webhook_replays)) == []

    answer = await replay(viewer, **shown, confirmed="yes", repeat="yes")
    assert answer.headers["location"] == "/inspector/events?endpoint=test&replayed=3"
    assert "again: 3" in await text(viewer, "/events?endpoint=test&replayed=3")
    assert len(await database.rows(sa.select(webhook_replays))) == 3
    assert (await stored(database, "evt_3")).state == "done"


@pytest.mark.usefixtures("events")
async def test_what_is_not_chosen_is_not_replayed(
    viewer: httpx2.AsyncClient, database: Database
) -> None:
    for scope in ("selected", "all", ""):
        answer = await replay(viewer, scope=scope, confirmed="yes", repeat="yes")
        assert "nothing would be replayed" in answer.text
    assert await database.rows(sa.select(webhook_replays)) == []


# The database


async def test_a_query_that_takes_too_long_ends(
    viewer: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    monkeypatch.setattr(queries, "STATEMENT_SECONDS", 0.02)
    monkeypatch.setattr(overview, "look", lambda connection: connection.execute(sa.text(endless)))

    async with asyncio.timeout(2):
        assert (await viewer.get("/inspector")).status_code == 503
