"""The commands of `python -m app`."""

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Column, Table

from app.database import NOW, is_sqlite, url
from app.inbox.engines import create_engine
from app.inbox.table import webhook_events
from app.samples import sample, sample_files
from app.webhooks.endpoint import Endpoint

PAGE = 500  # events at a time: the service is not kept waiting
SEND_TIMEOUT_SECONDS = 30
NEVER_STARTED = (
    "DATABASE_URL names a database without the table of events:"
    " start the service once, or go to the folder in which it runs"
)

State = Literal["pending", "done", "dead"]

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
columns = webhook_events.c
now = sa.literal_column(NOW, sa.Double)


@cli.command()
def send(
    event_type: Annotated[str, typer.Argument(help="An event type of tests/fixtures.")],
    url: Annotated[str, typer.Option(help="Where the service is.")] = "http://localhost:8000",
    endpoint: Annotated[str, typer.Option(help="The endpoint; the first, if not given.")] = "",
    event_id: Annotated[str, typer.Option("--id", help="The event's id; else a new one.")] = "",
) -> None:
    """Sign a sample event with the configured secret, and send it to the service."""
    chosen = _find_endpoint(endpoint)
    known = list(sample_files(chosen))
    if event_type not in known:
        there_are = ", ".join(known) or "no others"
        raise SystemExit(f"there is no sample {event_type}.json in tests/fixtures: {there_are}")
    made = sample(chosen, event_type, event_id)
    address = f"{url.rstrip('/')}/webhooks/{chosen.name}"
    headers = made.headers | {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(address, made.body, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=SEND_TIMEOUT_SECONDS) as answer:  # noqa: S310
            typer.echo(f"{made.event_id} {answer.status} {answer.read().decode()}")
    except urllib.error.HTTPError as refusal:
        text = refusal.read().decode(errors="replace")
        raise SystemExit(f"{made.event_id} {refusal.code} {text}") from None
    except (OSError, ValueError) as error:
        raise SystemExit(f"no service answers at {url}: {error}") from None


def _find_endpoint(name: str) -> Endpoint:
    from app.endpoints import endpoints  # only here: the other commands need no secret

    for endpoint in endpoints:
        if name in ("", endpoint.name):
            return endpoint
    names = ", ".join(endpoint.name for endpoint in endpoints)
    raise SystemExit(f"app/endpoints.py has no endpoint {name!r}: there are {names}")


@cli.command()
def events(
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the newest events."""
    unlisted = ("payload", "headers", "error")
    listed = [column for column in columns if column.name not in unlisted]
    query = sa.select(*listed).order_by(columns.id.desc()).limit(limit)
    if state is not None:
        query = query.where(columns.state == state)
    rows = _execute(query)
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
    else:
        Console(markup=False, emoji=False).print(_table(rows))


def _table(rows: list[dict[str, Any]]) -> Table:
    headings = ("received", "endpoint", "event", "type", "state", "attempts", "due")
    table = Table(*(Column(heading, overflow="fold") for heading in headings))
    for row in rows:
        table.add_row(
            _time(row["received_at"]),
            row["endpoint"],
            row["event_id"],
            row["event_type"],
            row["state"],
            str(row["attempts"]),
            _time(row["due_at"]),
        )
    return table


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"


@cli.command()
def show(event_id: str) -> None:
    """Show an event: its row, its payload, and the traceback of its last failure."""
    rows = _execute(sa.select(webhook_events).where(columns.event_id == event_id))
    if not rows:
        raise SystemExit(f"there is no event {event_id}: see python -m app events")
    for row in rows:
        payload = row.pop("payload").decode(errors="replace")
        row["headers"] = json.loads(row["headers"] or "{}")
        error = row.pop("error") or ""
        typer.echo(f"{json.dumps(row, indent=2)}\n\n{payload}\n\n{error}")


@cli.command()
def replay(
    event_ids: Annotated[list[str] | None, typer.Argument(help="The events' ids.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All dead events.")] = False,
) -> None:
    """Let finished events be handled again. The running service does it."""
    if bool(event_ids) == dead:
        raise SystemExit("name the events to replay, or use --dead for all dead ones")
    chosen = columns.state == "dead" if dead else columns.event_id.in_(event_ids or [])
    statement = (
        sa.update(webhook_events)
        .where(chosen, columns.due_at.is_(None))
        .values(state="pending", due_at=now, failures=0, queued=False, finished_at=None)
        .returning(columns.event_id)
    )
    rows = _execute(statement)
    if not rows:
        raise SystemExit("none of these events is done or dead: see python -m app events")
    typer.echo(f"{len(rows)} to be handled again")


@cli.command()
def export() -> None:
    """Write every event as one JSON object a line."""
    last_id = 0
    page = sa.select(webhook_events).order_by(columns.id).limit(PAGE)
    while rows := _execute(page.where(columns.id > last_id)):
        for row in rows:
            row["payload"] = row["payload"].decode(errors="replace")
            row["headers"] = json.loads(row["headers"] or "{}")
            typer.echo(json.dumps(row))
        last_id = rows[-1]["id"]


@cli.command()
def prune(
    days: Annotated[float, typer.Option(min=0, help="Keep those done since then.")] = 90,
) -> None:
    """Delete events that were done long ago. Delivered again, they would be handled again."""
    oldest = now - days * 86400
    page = sa.select(columns.id).where(columns.state == "done", columns.finished_at < oldest)
    statement = (
        sa.delete(webhook_events)
        .where(columns.id.in_(page.order_by(columns.id).limit(PAGE)))
        .returning(columns.id)
    )
    deleted = 0
    while rows := _execute(statement):
        deleted += len(rows)
    typer.echo(f"{deleted} deleted")


def _execute(statement: sa.Executable) -> list[dict[str, Any]]:
    """Run one statement on the inbox and return its rows.

    Raises:
        SystemExit: that was not possible; the line says why.
    """
    if is_sqlite and not Path(url.database or "").exists():
        raise SystemExit(NEVER_STARTED)
    engine = create_engine()
    try:
        with engine.begin() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        if "no such table" in reason or getattr(error.orig, "sqlstate", None) == "42P01":
            raise SystemExit(NEVER_STARTED) from None
        raise SystemExit(f"DATABASE_URL: the database does not answer: {reason}") from None
    finally:
        engine.dispose()
