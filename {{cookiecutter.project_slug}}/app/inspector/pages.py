"""The pages, and the forms by which events are replayed.

All but the log-in need a session. Every change is a POST with a token that belongs to the session.
Queries run in threads, on connections of their own, so that they hold up no acknowledgement.
"""

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qs

import sqlalchemy as sa
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from pydantic import ValidationError

from app.inbox.group_commit import describe
from app.inbox.writers import in_a_thread
from app.inspector import overview, queries, sessions
from app.inspector.queries import MAX_REPLAYS, WINDOW, Filter, Id, columns
from app.inspector.rendering import SHOWN, as_curl, pretty, templates
from app.inspector.sessions import SESSION_SECONDS, WINDOW_SECONDS, Session, Throttle
from app.inspector.settings import settings as inspector_settings
from app.settings import settings
from app.webhooks.body import Payload

STATIC = Path(__file__).parent / "static"
COOKIE = "inspector_session"
MAX_NAME = 64  # characters
MAX_FIELDS = 200  # of a form
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

T = TypeVar("T")
Form = dict[str, list[str]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inspector:
    """What a process has of the inspector."""

    engine: sa.Engine = field(default_factory=queries.create_small_engine)
    throttle: Throttle = field(default_factory=Throttle)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Inspector]]:
    sessions.signing_key()  # takes a while, so not in a request
    inspector = Inspector()
    yield {"inspector": inspector}
    inspector.engine.dispose()


router = APIRouter(prefix="/inspector", lifespan=_lifespan, include_in_schema=False)


def inspector_router() -> APIRouter:
    """Return the router of the pages; an empty one if no password is set."""
    return router if inspector_settings.password else APIRouter()


def home(request: Request) -> str:
    """Return the path of the first page."""
    root: str = request.scope.get("root_path", "")
    return f"{root}{request.app.url_path_for('inspector')}"


def session_of(request: Request) -> Session:
    """Return who is logged in. Whoever is not is sent to the log-in."""
    session = sessions.from_cookie(request.cookies.get(COOKIE, ""))
    if session is None:
        raise HTTPException(303, "log in first", {"Location": f"{home(request)}/login"})
    return session


Viewer = Annotated[Session, Depends(session_of)]


def parse_form(payload: Payload) -> Form:
    """Return the fields of a form."""
    try:
        text = payload.decode(errors="replace")
        return parse_qs(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise HTTPException(400, "too many fields") from None


def checked_form(
    request: Request, viewer: Viewer, form: Annotated[Form, Depends(parse_form)]
) -> Form:
    """Return the fields of a form that was made for this session."""
    if not sessions.is_csrf_token(first(form, "csrf"), request.cookies[COOKIE]):
        raise HTTPException(403, "the form is not of this session: reload the page")
    return form


CheckedForm = Annotated[Form, Depends(checked_form)]


def first(form: Form, name: str) -> str:
    """Return the first value of a field."""
    return form.get(name, [""])[0]


def page(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    """Return a page."""
    csrf = sessions.csrf_token(request.cookies.get(COOKIE, ""))
    common = {"home": home(request), "csrf": csrf, "window": WINDOW}
    return templates.TemplateResponse(request, template, common | context, status, HEADERS)


async def call(function: Callable[[], T]) -> T:
    """Call what uses the database, in a thread."""
    try:
        return await in_a_thread(function)
    except sa.exc.SQLAlchemyError as error:
        logger.warning("the database did not answer the inspector: %s", describe(error))
        raise HTTPException(503, "the database did not answer in time") from None


async def read(request: Request, query: Callable[[sa.Connection], T]) -> T:
    """Return what a query finds."""
    inspector: Inspector = request.state.inspector

    def run() -> T:
        with inspector.engine.connect() as connection:
            return query(connection)

    return await call(run)


@router.get("/static/{name}")
async def static(name: Literal["inspector.css", "inspector.js", "icon.svg"]) -> Response:
    """Return a file that pages refer to."""
    return FileResponse(STATIC / name, headers={"X-Content-Type-Options": "nosniff"})


@router.get("/login")
async def show_login(request: Request) -> Response:
    """Show the form to log in."""
    return page(request, "login.html")


@router.post("/login")
async def log_in(request: Request, form: Annotated[Form, Depends(parse_form)]) -> Response:
    """Begin a session, if the password is right."""
    throttle: Throttle = request.state.inspector.throttle
    address = request.client.host if request.client else ""
    if throttle.is_closed(address):
        problem = f"Too many wrong passwords: wait {WINDOW_SECONDS} seconds."
        return page(request, "login.html", 429, problem=problem)
    name = first(form, "name").strip()[:MAX_NAME]
    if not (name and name.isprintable()):
        return page(request, "login.html", 422, problem="Give a name, for the record of replays.")
    session = sessions.log_in(name, first(form, "password"))
    if session is None:
        throttle.count_failure(address)
        logger.warning("inspector: a wrong password from %s", address)
        return page(request, "login.html", 401, problem="This is not a password.", name=name)
    logger.info("inspector: %s logged in from %s", name, address)
    answer = RedirectResponse(home(request), 303)
    answer.set_cookie(
        COOKIE,
        sessions.to_cookie(session),
        max_age=SESSION_SECONDS,
        path=home(request),
        secure=settings.environment == "production",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/logout")
async def log_out(request: Request, form: CheckedForm) -> Response:
    """Let the browser forget the session."""
    answer = RedirectResponse(f"{home(request)}/login", 303)
    answer.delete_cookie(COOKIE, path=home(request))
    return answer


@router.get("", name="inspector")
async def show_overview(request: Request, viewer: Viewer) -> Response:
    """Show the figures."""
    seen = await read(request, overview.look)
    return page(request, "overview.html", viewer=viewer, seen=seen, most=overview.MAX_COUNT)


@router.get("/events")
async def list_events(
    request: Request, viewer: Viewer, shown: Annotated[Filter, Query()], replayed: int | None = None
) -> Response:
    """List events, the newest first."""
    found = await read(request, partial(queries.find_page, chosen=shown))
    return page(request, "events.html", viewer=viewer, shown=shown, found=found, replayed=replayed)


@router.get("/events/{event_id}")
async def show_event(
    request: Request, viewer: Viewer, event_id: Id, replayed: int | None = None
) -> Response:
    """Show an event: its life, its headers, its payload."""
    event, life = await read(request, partial(queries.find_event, event_id=event_id))
    return page(
        request,
        "event.html",
        viewer=viewer,
        event=event,
        life=life,
        kept=json.loads(event.headers or "{}"),
        pretty=pretty(event.payload),
        raw=event.payload[:SHOWN].decode(errors="replace"),
        curl=as_curl(str(request.base_url), event),
        replayed=replayed,
    )


@router.get("/events/{event_id}/payload")
async def download(request: Request, viewer: Viewer, event_id: Id) -> Response:
    """Return a payload, byte for byte, as a file to save."""
    event, _ = await read(request, partial(queries.find_event, event_id=event_id))
    as_file = {"Content-Disposition": f'attachment; filename="event-{event_id}"'}
    return Response(event.payload, 200, HEADERS | as_file, "application/octet-stream")


@router.post("/replay")
async def replay(request: Request, viewer: Viewer, form: CheckedForm) -> Response:
    """Replay events, or say which ones that would be, until it is confirmed.

    That some of them were handled is confirmed separately, because their effects are repeated.
    """
    if not viewer.may_replay:
        raise HTTPException(403, "this password does not allow replays")
    selected = [int(each) for each in form.get("event", []) if each.isdecimal()]
    shown = filter_of(form)
    chosen: sa.ColumnElement[bool] = columns.id.in_(selected)
    if first(form, "scope") == "all" and shown.before:
        chosen = shown.condition(shown.before)
    found = await read(request, partial(queries.find_replayable, chosen=chosen))
    handled = sum(state == "done" for state in found.values())
    is_confirmed = "confirmed" in form and ("repeat" in form or not handled)
    if not (is_confirmed and found):
        return page(
            request,
            "replay.html",
            viewer=viewer,
            form=form,
            shown=shown,
            number=len(found),
            handled=handled,
            most=MAX_REPLAYS,
        )
    engine = request.state.inspector.engine
    replayed_by = f"{viewer.name} (inspector)"
    number = await call(partial(queries.replay, engine, list(found), replayed_by))
    logger.info("inspector: %s replayed %d events", viewer.name, number)
    where = f"/events/{selected[0]}?" if len(selected) == 1 else f"/events?{shown.query()}&"
    return RedirectResponse(f"{home(request)}{where}replayed={number}", 303)


def filter_of(form: Form) -> Filter:
    """Return the filter that a form holds."""
    try:
        return Filter.model_validate({name: first(form, name) for name in Filter.model_fields})
    except ValidationError:
        raise HTTPException(422, "the filter cannot be used") from None
