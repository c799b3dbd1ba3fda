"""The inspector in a browser: what it shows, and that everybody can use it.

SCREENSHOTS is the folder where the screenshots are kept, if it is set.
"""

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from attacks.conftest import Run, run  # noqa: F401
from live.service import ON_SQLITE, Service
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)
from project import run as run_command

CHROMIUM = shutil.which("chromium")
NPM = shutil.which("npm")
PASSWORD = "correct horse battery"  # noqa: S105

# Fails until somebody has repaired it.
HANDLER = """
if event.type == "invoice.payment_failed" and not Path("repaired").exists():
    raise LookupError("no order for invoice in_1042")
"""
SETTINGS = {"INSPECTOR_PASSWORD": PASSWORD, "MAX_ATTEMPTS": "1", "STRIPE_ALLOW_TEST_EVENTS": "true"}

PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1200, "height": 900}

# A day like others: 900 events, some of which took long, failed or died.
PAST = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900),
event(i, received_at, took, is_dead) AS (
    SELECT i, :now - 80000.0 * (900 - i) * (900 - i) / 810000,
        (i % 7 + 1) * 0.04 + (i * 7919 % 97) / 300.0, i % 61 = 7 FROM n
)
INSERT INTO webhook_events (endpoint, event_id, event_type, payload, received_at, state, due_at,
    attempts, started_at, finished_at, error)
SELECT 'stripe', printf('evt_1SxGN%08x', i * 2654435761 % 4294967296),
    CASE i % 7 WHEN 0 THEN 'customer.subscription.deleted' WHEN 1 THEN 'invoice.paid'
        WHEN 2 THEN 'checkout.session.completed' ELSE 'payment_intent.succeeded' END,
    '{}', received_at, CASE WHEN is_dead THEN 'dead' ELSE 'done' END, NULL, 1 + 2 * is_dead,
    received_at, received_at + 0.02 + took,
    CASE WHEN is_dead THEN 'Traceback' || char(10) || 'ConnectError: no route to host' END
FROM event
"""
FAILURES = """
INSERT INTO webhook_attempts (event, number, started_at, ended_at, worker, outcome, error)
SELECT id, 1, received_at, received_at + 0.4, 'web-1:17', 'failed', 'ConnectError: no route'
FROM webhook_events WHERE id % 23 = 7
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe, which finds what keeps people from using a page."""
    if NPM is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("axe")
    try:
        run_command(["npm", "install", "--silent", "--no-audit", "axe-core"], folder, 300)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"axe-core cannot be installed: {error}"[:200])
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def service(run: Run) -> Iterator[Service]:  # noqa: F811
    """A service with a past, in which an event has just died."""
    with run(ON_SQLITE[0], HANDLER, settings=SETTINGS) as service:
        with closing(sqlite3.connect(service.database.file)) as connection:
            connection.execute(PAST, {"now": time.time()})
            connection.execute(FAILURES)
            connection.commit()
        send(service, "invoice.payment_failed", "evt_dead")
        send(service, "invoice.paid", "evt_done")
        service.seconds_until_handled()
        yield service


@pytest.fixture
def context(browser: Browser, service: Service) -> Iterator[BrowserContext]:
    address = f"http://localhost:{service.port}"
    context = browser.new_context(base_url=address, viewport=DESKTOP, color_scheme="light")
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about: errors of scripts, and what the policy forbids."""
    return []


@pytest.fixture
def page(context: BrowserContext, complaints: list[str]) -> Page:
    """A page on which somebody has logged in, by keyboard alone."""
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.goto("/inspector/events")
    expect(page).to_have_title("Log in · Inspector")
    page.get_by_label("Your name").focus()
    page.keyboard.type("Zoë")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    return page


def send(service: Service, event_type: str, event_id: str) -> None:
    service.run(f"app send {event_type} --id {event_id} --url http://localhost:{service.port}")


def violations(page: Page, axe: str) -> list[str]:
    """Return what axe finds on a page."""
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]


def test_a_dead_event_is_found_repaired_replayed_and_seen_to_be_done(
    service: Service, page: Page, complaints: list[str]
) -> None:
    page.get_by_role("link", name="Events", exact=True).click()
    page.get_by_label("State").select_option("dead")
    page.get_by_label("Id", exact=True).fill("evt_dead")
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_role("link", name="invoice.payment_failed").click()
    expect(page.get_by_text("LookupError: no order for invoice in_1042").first).to_be_visible()
    expect(page.locator(".state")).to_have_text("dead")

    (service.project.path / "repaired").touch()
    page.get_by_role("button", name="Replay", exact=True).click()

    expect(page.get_by_role("status")).to_have_text("Events to be handled again: 1")
    expect(page.locator(".state")).to_have_text("done")  # it is live
    expect(page.locator(".life")).to_contain_text("by Zoë (inspector)")

    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("1 were handled before")).to_be_visible()
    page.get_by_role("button", name="Replay 1").click()
    assert "/replay" in page.url, "it has to be confirmed twice"
    page.get_by_label("Repeat the effects").check()
    page.get_by_role("button", name="Replay 1").click()
    expect(page.get_by_role("status")).to_be_visible()

    page.get_by_role("button", name="Log out").click()
    page.goto("/inspector")
    expect(page).to_have_title("Log in · Inspector")
    assert complaints == []


def test_new_events_appear_until_the_page_is_told_to_stop(
    service: Service, page: Page, complaints: list[str]
) -> None:
    page.get_by_role("link", name="Events", exact=True).click()
    live = page.get_by_role("button", name="Live")
    expect(live).to_have_attribute("aria-pressed", "true")
    send(service, "invoice.paid", "evt_while_live")
    expect(page.get_by_text("evt_while_live")).to_be_visible()

    live.click()
    expect(live).to_have_attribute("aria-pressed", "false")
    send(service, "invoice.paid", "evt_while_stopped")
    page.wait_for_timeout(4000)
    expect(page.get_by_text("evt_while_stopped")).to_have_count(0)

    page.reload()
    expect(page.get_by_text("evt_while_stopped")).to_be_visible()
    expect(live).to_have_attribute("aria-pressed", "false")
    page.get_by_label("Select all on this page").check()
    page.get_by_role("button", name="Replay selected").click()
    expect(page.get_by_text("would be handled again")).to_be_visible()
    assert complaints == []


def test_nobody_is_kept_from_using_the_pages(
    service: Service, page: Page, axe: str, tmp_path: Path, complaints: list[str]
) -> None:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    event = service.database.rows("SELECT id FROM webhook_events WHERE event_id = 'evt_dead'")[0][0]
    paths = {
        "overview": "/inspector",
        "events": "/inspector/events",
        "event": f"/inspector/events/{event}",
        "login": "/inspector/login",
    }
    found = {}
    for look, size, scheme in (
        ("light", DESKTOP, "light"),
        ("dark", DESKTOP, "dark"),
        ("phone", PHONE, "light"),
    ):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        for name, path in paths.items():
            page.goto(path)
            found[name, look] = violations(page, axe)
            page.screenshot(path=folder / f"{name}-{look}.png")
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= size["width"], f"{name} is wider than the {look} screen"
    page.goto("/inspector/events")
    page.get_by_role("button", name="Replay all").click()
    found["replay", "phone"] = violations(page, axe)
    page.screenshot(path=folder / "replay-phone.png")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()

    assert {where: what for where, what in found.items() if what} == {}
    assert complaints == []
