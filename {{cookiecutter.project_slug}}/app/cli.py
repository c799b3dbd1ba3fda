"""The commands of `python -m app`."""

import asyncio
import getpass
import json
import re
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Column, Table

from app.database import is_sqlite
from app.health import find_problem
from app.inbox import history, retention
from app.inbox.engines import create_engine, is_missing, is_temporary, unusable
from app.inbox.table import webhook_events
from app.logs import configure_logging
from app.samples import sample, sample_files
from app.schema import HISTORIES, NEVER_STARTED, SchemaUnusable, applied_revisions
from app.schema import migrate as migrate_schema
from app.webhooks.endpoint import Endpoint, nobody
from app.webhooks.verifier import Verifier

FOLLOW_SECONDS = 1  # from one look to the next
PAGE = 500  # events at a time: the service is not kept waiting
SEND_TIMEOUT_SECONDS = 30

# What the engine notes for itself. The life of an event tells the same.
INTERNAL = ("failures", "queued", "has_slot", "lost_started_at", "lost_worker")
PIPED_COLUMNS = 200  # of a table that no terminal has to hold

State = Literal["pending", "done", "dead", "pruned"]

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
columns = webhook_events.c


@cli.command()
def send(
    event_type: Annotated[str, typer.Argument(help="An event type of tests/fixtures.")],
    url: Annotated[str, typer.Option(help="Where the service is.")] = "http://localhost:8000",
    endpoint: Annotated[str, typer.Option(help="The endpoint; the first, if not given.")] = "",
    event_id: Annotated[str, typer.Option("--id", help="The event's id; else a new one.")] = "",
) -> None:
    """Sign a sample event with the configured secret, and send it to the service."""
    chosen = _find_endpoint(endpoint)
    if not isinstance(chosen.verify, Verifier):
        raise SystemExit(f"endpoint {chosen.name!r} has a verify function that signs no samples")
    known = list(sample_files(chosen))
    if event_type not in known:
        there_are = ", ".join(known) or "no others"
        raise SystemExit(f"there is no sample {event_type}.json in tests/fixtures: {there_are}")
    made = sample(chosen, event_type, event_id)
    address = f"{url.rstrip('/')}/webhooks/{chosen.name}"
    headers = {"Content-Type": "application/json"} | made.headers
    try:
        request = urllib.request.Request(address, made.body, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=SEND_TIMEOUT_SECONDS) as answer:  # noqa: S310
            typer.echo(f"{made.event_id} {answer.status} {answer.read().decode()}".rstrip())
    except urllib.error.HTTPError as refusal:
        text = refusal.read().decode(errors="replace")
        if refusal.code == 404:
            text += f": is it this service that answers at {url}? See --url"
        raise SystemExit(f"{made.event_id} {refusal.code} {text}") from None
    except (OSError, ValueError) as error:
        raise SystemExit(f"no service answers at {url}: {error}") from None


def _find_endpoint(name: str) -> Endpoint:
    from app.endpoints import endpoints  # only here: the other commands need no secret

    receiving = [endpoint for endpoint in endpoints if endpoint.verify is not nobody]
    for endpoint in receiving:
        if name in ("", endpoint.name):
            return endpoint
    if name in [endpoint.name for endpoint in endpoints]:
        raise SystemExit(f"endpoint {name!r} has no verifier: only the service itself sends to it")
    names = ", ".join(endpoint.name for endpoint in receiving)
    raise SystemExit(f"app/endpoints.py has no endpoint {name!r}: there are {names}")


@cli.command()
def events(
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    event_type: Annotated[str, typer.Option("--type", help="Only those of this type.")] = "",
    endpoint: Annotated[str, typer.Option(help="Only those of this endpoint.")] = "",
    since: Annotated[str, typer.Option(help="Received in this time: 90s, 10m, 2h or 3d.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with those that arrive.")] = False,
) -> None:
    """List the newest events."""
    unlisted = ("payload", "headers", "error")
    listed = [column for column in columns if column.name not in unlisted]
    query = sa.select(*listed).order_by(columns.id.desc())
    if state is not None:
        query = query.where(columns.state == state)
    if event_type:
        query = query.where(columns.event_type == event_type)
    if endpoint:
        query = query.where(columns.endpoint == endpoint)
    if since:
        query = query.where(columns.received_at >= history.now - _seconds(since))
    rows = _execute(query.limit(limit))
    _print(rows, as_json)
    last_id = max((row["id"] for row in rows), default=0)
    while follow:
        time.sleep(FOLLOW_SECONDS)
        if rows := _execute(query.where(columns.id > last_id)):
            _print(rows[::-1], as_json)
            last_id = rows[0]["id"]


def _seconds(text: str) -> int:
    """Return the seconds of a time such as `10m`."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise SystemExit(f"--since is {text!r}: write a number and a unit, such as 90s or 2h")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
    else:
        width = None if sys.stdout.isatty() else PIPED_COLUMNS
        Console(markup=False, emoji=False, width=width).print(_table(rows))


def _table(rows: list[dict[str, Any]]) -> Table:
    headings = ("received", "endpoint", "event", "type", "state", "attempts", "due")
    # An id is to be copied: the other columns are folded before it is.
    table = Table(*(Column(each, overflow="fold", no_wrap=each == "event") for each in headings))
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
    """Show an event: its row, its life, its payload, and the traceback of its last failure."""
    query = sa.select(webhook_events).where(columns.event_id == event_id)
    with _connect() as connection:
        rows = connection.execute(query).all()
        lives = [history.life(connection, row) for row in rows]
    if not rows:
        raise SystemExit(f"there is no event {event_id}: see python -m app events")
    for row, life in zip(rows, lives, strict=True):
        values = {name: value for name, value in row._mapping.items() if name not in INTERNAL}
        payload = values.pop("payload").decode(errors="replace")
        values["headers"] = json.loads(values["headers"] or "{}")
        error = values.pop("error")
        parts = [json.dumps(values, indent=2), "\n".join(map(_line, life)), payload]
        if error:
            parts.append(f"last failure:\n{error}")
        typer.echo("\n\n".join(parts))


def _line(moment: history.Moment) -> str:
    line = f"{_time(moment.at)}  {moment.what}"
    if moment.what == "replayed":
        return f"{line} by {moment.who}"
    if moment.outcome:
        line += f" {moment.outcome}"
    if moment.ended_at is not None:
        line += f" after {moment.ended_at - moment.at:.1f} s"
    if moment.who:
        line += f" on {moment.who}"
    if moment.error:
        line += f": {history.reason(moment.error)}"
    return line


@cli.command()
def replay(
    event_ids: Annotated[list[str] | None, typer.Argument(help="The events' ids.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All dead events.")] = False,
    endpoint: Annotated[str, typer.Option(help="Only those of this endpoint.")] = "",
) -> None:
    """Let finished events be handled again. The running service does it."""
    if bool(event_ids) == dead:
        raise SystemExit("name the events to replay, or use --dead for all dead ones")
    chosen = columns.state == "dead" if dead else columns.event_id.in_(event_ids or [])
    if endpoint:
        chosen = sa.and_(chosen, columns.endpoint == endpoint)
    with _connect() as connection:
        ids = history.replay(connection, chosen, _who())
    if not ids:
        raise SystemExit("none of these events is done or dead: see python -m app events")
    typer.echo(f"{len(ids)} to be handled again")


def _who() -> str:
    """Return user and host, for the record."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user need not have a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


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
    days: Annotated[
        float, typer.Option(min=0, help="Keep payloads of those done since then.")
    ] = 90,
    keep_ids: Annotated[float, typer.Option(min=0, help="Keep ids for so many days.")] = 365,
) -> None:
    """Delete payloads and errors of events that were done long ago, and very old ids."""
    with _engine() as engine:
        pruned, forgotten = retention.prune(engine, days, keep_ids, time.sleep)
    typer.echo(f"{pruned} pruned, {forgotten} deleted")


@cli.command()
def shrink() -> None:
    """Give the space of what was pruned back to the disk. SQLite only: stop the service first."""
    if not is_sqlite:
        raise SystemExit("DATABASE_URL names PostgreSQL, whose autovacuum uses the space again")
    with _engine() as engine, engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM")


@cli.command()
def migrate() -> None:
    """Apply the revisions that the database lacks, and say which it has then."""
    configure_logging()
    engine = create_engine()
    try:
        migrate_schema()
        with engine.connect() as connection:
            applied = [applied_revisions(connection, each) for each in HISTORIES]
    except SchemaUnusable as error:
        raise SystemExit(f"DATABASE_URL: {error}") from None
    except sa.exc.DBAPIError as error:
        if not is_temporary(error):
            raise
        raise SystemExit(f"DATABASE_URL: the database is away: {unusable(error)}") from None
    finally:
        engine.dispose()
    for each, revisions in zip(HISTORIES, applied, strict=True):
        typer.echo(f"{each.name}: {', '.join(sorted(revisions)) or 'nothing'}")


@cli.command()
def check() -> None:
    """Look for what is wrong, and say what to do about it. Then the status is 1."""

    async def look() -> bool:
        from app.check import Verdict, findings  # here, as only this command needs the service

        is_wrong = False
        async for each in findings():
            line = f"{each.verdict:6}{each.what}"
            typer.echo(f"{line}: {each.text}" if each.text else line)
            is_wrong = is_wrong or each.verdict is Verdict.WRONG
        return is_wrong

    if asyncio.run(look()):
        raise typer.Exit(1)


@cli.command()
def health() -> None:
    """Say whether the database answers and its schema is current. If not, the status is 1."""
    with _engine() as engine:
        problem = find_problem(engine)
    if problem is not None:
        raise SystemExit(f"DATABASE_URL: {problem.what}: {problem.why}")
    typer.echo("ready")


def _execute(statement: sa.Executable) -> list[dict[str, Any]]:
    """Run one statement on the inbox and return its rows."""
    with _connect() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


@contextmanager
def _connect() -> Iterator[sa.Connection]:
    """Yield a connection to the inbox, in a transaction that is committed at the end."""
    with _engine() as engine, engine.begin() as connection:
        yield connection


@contextmanager
def _engine() -> Iterator[sa.Engine]:
    """Yield the database.

    Raises:
        SystemExit: it cannot be used; the line says why.
    """
    if is_missing():
        raise SystemExit(NEVER_STARTED)
    engine = create_engine()
    try:
        yield engine
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        if "no such table" in reason or getattr(error.orig, "sqlstate", None) == "42P01":
            raise SystemExit(NEVER_STARTED) from None
        raise SystemExit(f"DATABASE_URL: the database does not answer: {reason}") from None
    finally:
        engine.dispose()
