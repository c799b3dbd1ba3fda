"""How things are written in the pages. Jinja escapes all that comes from outside."""

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from app.events import parse_json
from app.inbox.history import reason
from app.webhooks.refusals import InvalidEvent

SHOWN = 100_000  # characters of a payload
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def moment(seconds: float) -> str:
    """Return a time as HTML wants it, which people can read, too."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))


def span(seconds: float) -> str:
    """Return how long something is, in its largest unit."""
    for size, unit in UNITS:
        if abs(seconds) >= size:
            return f"{abs(seconds) / size:.0f} {unit}"
    return f"{abs(seconds) * 1000:.0f} ms"


def age(seconds: float) -> str:
    """Return how long ago a time was, or how far ahead it is."""
    passed = time.time() - seconds
    return f"{span(passed)} ago" if passed >= 0 else f"in {span(passed)}"


def breakable(name: str) -> Markup:
    """Return a name that may go on in the next line after a dot, a slash or an underscore."""
    parts = re.split(r"(?<=[./_])", name)
    return Markup("<wbr>").join(parts)


def pretty(payload: bytes) -> str:
    """Return a payload as indented JSON, or as it is."""
    try:
        text = json.dumps(parse_json(payload), indent=2, ensure_ascii=False)
    except (InvalidEvent, RecursionError):
        text = payload.decode(errors="replace")
    return text[:SHOWN].encode(errors="backslashreplace").decode()


def as_curl(address: str, event: sa.Row[Any]) -> str:
    """Return a command that sends an event again. What it is signed with was not stored."""
    headers = json.loads(event.headers or "{}") | {"SIGNATURE-HEADER": "***"}
    command = [f"curl --request POST {shlex.quote(f'{address}webhooks/{event.endpoint}')}"]
    command += [f"--header {shlex.quote(f'{name}: {headers[name]}')}" for name in headers]
    try:
        text = event.payload.decode()
    except UnicodeDecodeError:
        text = ""
    is_short = 0 < len(text) <= SHOWN and "\0" not in text
    body = f"--data-raw {shlex.quote(text)}" if is_short else "--data-binary @payload"
    return " \\\n  ".join([*command, body])


environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
for written in (moment, span, age, reason, breakable):
    environment.filters[written.__name__] = written
templates = Jinja2Templates(env=environment)
