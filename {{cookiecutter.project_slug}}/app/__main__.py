"""The command line: `python -m app --help`."""

import json
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Column, Table

from app.config import settings
from app.database import connect, create_schema, now
from app.inbox import State
from app.models import inbox

PAGE = 500  # events: more at once would keep the service waiting
HEADINGS = ("received", "provider", "event", "type", "state", "attempts", "next")

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
if find_spec("samples"):  # in development; it is not in the image
    from samples.send import send

    cli.command()(send)


def execute(statement: sa.Executable) -> list[dict[str, Any]]:
    """Run one statement on the inbox and return its rows; or end with one line saying why not."""
    engine, _ = connect()
    try:
        with engine.begin() as connection:
            create_schema(connection)
        with engine.begin() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]
    except sa.exc.DBAPIError as error:
        raise SystemExit(f"DATABASE_URL: the database does not answer: {error.orig}") from None
    finally:
        engine.dispose()


def at(seconds: float | None) -> str:
    """Write seconds since the epoch as a time, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z" if seconds else ""


@cli.command()
def events(
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the newest events."""
    columns = [column for column in inbox.c if column.name not in ("payload", "error")]
    query = sa.select(*columns).order_by(inbox.c.id.desc()).limit(limit)
    rows = execute(query if state is None else query.where(inbox.c.state == state))
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    table = Table(*(Column(name, overflow="fold") for name in HEADINGS))
    for row in rows:
        what = (row["provider"], row["event_id"], row["type"], row["state"])
        tries = f"{row['attempts']} of {row['attempt_limit']}"
        table.add_row(at(row["received_at"]), *what, tries, at(row["due_at"]))
    Console(markup=False, emoji=False).print(table)


@cli.command()
def show(event_id: str) -> None:
    """Show one event whole: its payload, and the error of its last failure."""
    for row in (rows := execute(sa.select(inbox).where(inbox.c.event_id == event_id))):
        payload, error = row.pop("payload").decode(errors="replace"), row.pop("error") or ""
        typer.echo(f"{json.dumps(row, indent=2)}\n\n{payload}\n\n{error}")
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
    again = sa.update(inbox).where(chosen, inbox.c.due_at.is_(None)).returning(inbox.c.event_id)
    limit = inbox.c.attempts + settings.max_attempts
    rows = execute(again.values(state="pending", due_at=now, attempt_limit=limit, finished_at=None))
    typer.echo(f"{len(rows)} to be handled again")
    if not rows:
        raise SystemExit("no such event is done or dead: see python -m app events")


@cli.command()
def export() -> None:
    """Write every event as one JSON object a line, the payload as text."""
    page, last = sa.select(inbox).order_by(inbox.c.id).limit(PAGE), 0
    while rows := execute(page.where(inbox.c.id > last)):
        for row in rows:
            typer.echo(json.dumps(row | {"payload": row["payload"].decode(errors="replace")}))
        last = rows[-1]["id"]


@cli.command()
def prune(
    days: Annotated[float, typer.Option(min=0, help="Keep those finished since.")] = 90,
) -> None:
    """Delete events that were done long ago; delivered again, they would be handled again."""
    old = sa.select(inbox.c.id).where(inbox.c.state == "done").limit(PAGE)
    old = old.where(inbox.c.finished_at < now - days * 86400)
    deleted = 0
    while rows := execute(sa.delete(inbox).where(inbox.c.id.in_(old)).returning(inbox.c.id)):
        deleted += len(rows)
    typer.echo(f"{deleted} deleted")


if __name__ == "__main__":
    cli()
