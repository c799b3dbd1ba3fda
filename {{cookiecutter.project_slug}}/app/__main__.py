"""The command line: `python -m app --help`."""

import asyncio
import json
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Column, Table

from app import docs, providers
from app.config import settings
from app.database import connect, create_schema, now
from app.models import inbox

State = Literal["pending", "done", "dead"]
DAY = 86400  # seconds

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def execute(statement: sa.Executable) -> list[dict[str, Any]]:
    """Run one statement on the inbox and return its rows; or end with one line saying why not."""

    async def run() -> list[dict[str, Any]]:
        _, engine = connect()
        async with engine.begin() as connection:
            await connection.run_sync(create_schema)
            result = await connection.execute(statement)
            rows = [dict(row) for row in result.mappings()] if result.returns_rows else []
        await engine.dispose()
        return rows

    try:
        return asyncio.run(run())
    except sa.exc.DBAPIError as error:
        raise SystemExit(f"DATABASE_URL: the database does not answer: {error.orig}") from None


def columns(*without: str) -> list[sa.Column[Any]]:
    """The inbox's columns, without the bulky ones that are named."""
    return [column for column in inbox.c if column.name not in without]


def at(seconds: float | None) -> str:
    """Write seconds since the epoch as a time, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z" if seconds else ""


@cli.command()
def send(
    type: Annotated[str, typer.Argument(help="An event type, as tests/fixtures has it.")],
    url: Annotated[str, typer.Option(help="Where the service is.")] = "http://localhost:8000",
    provider: Annotated[str, typer.Option(help="Who to send as.")] = next(iter(providers.load())),
    id: Annotated[str, typer.Option(help="The event's id; a new one if not given.")] = "",
    file: Annotated[Path | None, typer.Option(help="A JSON file to send instead.")] = None,
) -> None:
    """Sign a sample event with the configured secret, and post it."""
    fixtures = docs.fixtures(provider)
    if file is None and type not in fixtures:
        samples = ", ".join(fixtures) or "none here"
        raise SystemExit(f"no sample of {type}: there are {samples}; or use --file")
    data = json.loads((file or fixtures[type]).read_text("utf-8"))
    id = id or f"evt_{uuid.uuid4().hex}"
    body, headers = providers.load()[provider].deliver(data, id, type)
    headers["Content-Type"] = "application/json"
    if not url.startswith(("http://", "https://")):
        raise SystemExit(f"--url {url} is no URL: write http://localhost:8000")
    request = urllib.request.Request(f"{url}/webhooks/{provider}", body, headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            typer.echo(f"{id} {answer.status} {answer.read().decode()}")
    except urllib.error.HTTPError as refusal:
        raise SystemExit(f"{id} {refusal.code} {refusal.read().decode()}") from None
    except OSError as error:
        raise SystemExit(f"no service answers at {url}: {error}") from None


@cli.command()
def events(
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(help="How many, the newest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the newest events."""
    query = sa.select(*columns("payload", "error")).order_by(inbox.c.id.desc()).limit(limit)
    rows = execute(query if state is None else query.where(inbox.c.state == state))
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    names = ("received", "provider", "event", "type", "state", "attempts", "next")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for row in rows:
        what = (row["provider"], row["event_id"], row["type"], row["state"])
        tries = f"{row['attempts']} of {row['attempt_limit']}"
        table.add_row(at(row["received_at"]), *what, tries, at(row["due_at"]))
    Console().print(table)


@cli.command()
def show(event_id: str) -> None:
    """Show one event whole: its payload, and the error of its last failure."""
    rows = execute(sa.select(inbox).where(inbox.c.event_id == event_id))
    for row in rows:
        payload, error = row.pop("payload"), row.pop("error")
        parts = (json.dumps(row, indent=2), payload.decode(errors="replace"), error or "")
        typer.echo("\n\n".join(parts))
    if not rows:
        raise SystemExit(f"there is no event {event_id}: see python -m app events")


@cli.command()
def replay(
    event_ids: Annotated[list[str] | None, typer.Argument(help="Which events.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All dead events.")] = False,
) -> None:
    """Handle finished events again; the running service takes them up."""
    if bool(event_ids) == dead:
        raise SystemExit("name the events to replay, or give --dead")
    chosen = inbox.c.state == "dead" if dead else inbox.c.event_id.in_(event_ids or [])
    again = sa.update(inbox).where(chosen, inbox.c.due_at.is_(None))
    limit = inbox.c.attempts + settings.max_attempts
    again = again.values(state="pending", due_at=now, attempt_limit=limit, finished_at=None)
    rows = execute(again.returning(inbox.c.event_id))
    typer.echo(f"{len(rows)} to be handled again")
    if not rows:
        raise SystemExit("no such event is done or dead: see python -m app events")


@cli.command()
def export() -> None:
    """Write every event as one JSON object a line, the payload as text."""
    for row in execute(sa.select(inbox).order_by(inbox.c.id)):
        row["payload"] = row["payload"].decode(errors="replace")
        typer.echo(json.dumps(row))


@cli.command()
def prune(
    days: Annotated[float, typer.Option(min=0, help="Keep those finished since.")] = 90,
) -> None:
    """Delete events that were done long ago; delivered again, they would be handled again."""
    old = sa.and_(inbox.c.state == "done", inbox.c.finished_at < now - days * DAY)
    typer.echo(f"{len(execute(sa.delete(inbox).where(old).returning(inbox.c.id)))} deleted")


if __name__ == "__main__":
    cli()
