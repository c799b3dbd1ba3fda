"""Endpoints: one that cannot work refuses the start, in one line that says what to change."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import handlers
from app.events import Event
from app.webhooks.endpoint import Endpoint, check_handlers
from app.webhooks.route import webhook_router
from tests.engine.service import SharedSecret, endpoint, handle

NAN, INF = float("nan"), float("inf")


def not_async(event: Event) -> None:
    """Handle nothing: it cannot be awaited."""


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"handler": not_async}, "its handler must be a function made with `async def`"),
        ({"handler": None}, "its handler must be a function made with `async def`"),
        ({"handler": "handle"}, "its handler must be a function made with `async def`"),
        ({"verify": None}, "verify must be a verifier or a dependency function"),
        ({"verify": "test"}, "verify must be a verifier or a dependency function"),
        ({"name": "Test"}, "use lower-case letters, digits and hyphens for the name"),
        ({"name": "te/st"}, "use lower-case letters, digits and hyphens for the name"),
        ({"name": ""}, "use lower-case letters, digits and hyphens for the name"),
        ({"max_attempts": 0}, "max_attempts must be a whole number from 1 up"),
        ({"max_attempts": 2.0}, "max_attempts must be a whole number from 1 up"),
        ({"max_attempts": True}, "max_attempts must be a whole number from 1 up"),
        ({"concurrency": 0}, "concurrency must be a whole number from 1 up"),
        ({"concurrency": "4"}, "concurrency must be a whole number from 1 up"),
        ({"retry_base_seconds": 0}, "retry_base_seconds must be a number of seconds above 0"),
        ({"retry_base_seconds": NAN}, "retry_base_seconds must be a number of seconds above 0"),
        ({"retry_cap_seconds": INF}, "retry_cap_seconds must be a number of seconds above 0"),
        ({"retry_cap_seconds": "1h"}, "retry_cap_seconds must be a number of seconds above 0"),
        (
            {"handler_timeout_seconds": -1},
            "handler_timeout_seconds must be a number of seconds above 0",
        ),
        (
            {"handler_timeout_seconds": True},
            "handler_timeout_seconds must be a number of seconds above 0",
        ),
    ],
)
def test_an_endpoint_that_cannot_work_is_refused(wrong: dict[str, Any], problem: str) -> None:
    parts: dict[str, Any] = {"name": "test", "verify": SharedSecret(), "handler": handle} | wrong

    with pytest.raises(SystemExit) as refusal:
        Endpoint(**parts)

    assert str(refusal.value) == f"app/endpoints.py: endpoint {parts['name']!r}: {problem}"


def test_two_endpoints_of_one_name_are_refused() -> None:
    with pytest.raises(SystemExit) as refusal:
        webhook_router([endpoint(name="one"), endpoint(name="two"), endpoint(name="one")])

    assert str(refusal.value) == "app/endpoints.py: two endpoints are called 'one': rename one"


def test_one_handler_may_have_several_endpoints() -> None:
    router = webhook_router([endpoint(name="one"), endpoint(name="two")])

    assert router.url_path_for("one") == "/webhooks/one"
    assert router.url_path_for("two") == "/webhooks/two"


@pytest.fixture
def handlers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in the place of `app/handlers/`."""
    known = set(sys.modules)
    monkeypatch.setattr(handlers, "__path__", [str(tmp_path)])
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("app.handlers."):
            del sys.modules[name]


def test_a_handler_that_no_endpoint_uses_is_refused(handlers_folder: Path) -> None:
    (handlers_folder / "forgotten.py").write_text("async def handle(event): ...\n")

    with pytest.raises(SystemExit) as refusal:
        check_handlers([endpoint()])

    assert str(refusal.value) == (
        "app/handlers/forgotten.py has a handler that no endpoint uses:"
        " list it in app/endpoints.py, or give the function another name"
    )


def test_a_handler_that_an_endpoint_uses_is_not(handlers_folder: Path) -> None:
    (handlers_folder / "used.py").write_text("async def handle(event): ...\n")
    from app.handlers import used  # type: ignore[attr-defined]

    check_handlers([endpoint(used.handle)])


@pytest.mark.parametrize(
    "source",
    [
        "def format_amount(cents): return cents / 100\n",
        "def handle(this, is_no, handler): ...\n",
        "handle = None\n",
    ],
)
def test_a_module_beside_the_handlers_may_hold_anything_else(
    handlers_folder: Path, source: str
) -> None:
    (handlers_folder / "money.py").write_text(source)

    check_handlers([endpoint()])
