"""`python -m app send`: a signed event, from your own machine."""

import urllib.error
import urllib.request
from typing import Annotated

import typer

from app import providers
from samples import FIXTURES, delivery, fixtures


def send(
    type: Annotated[str, typer.Argument(help="An event type, as tests/fixtures has it.")],
    url: Annotated[str, typer.Option(help="Where the service is.")] = "http://localhost:8000",
    provider: Annotated[str, typer.Option(help="Who to send as.")] = next(iter(providers.load())),
    id: Annotated[str, typer.Option(help="The event's id; a new one if not given.")] = "",
) -> None:
    """Sign a sample event with the configured secret, and post it."""
    if type not in fixtures(provider):
        known = ", ".join(fixtures(provider)) or "no others"
        raise SystemExit(f"{FIXTURES / provider} has no {type}.json; there are {known}")
    id, body, headers = delivery(provider, type, id)
    headers |= {"Content-Type": "application/json"}
    address = f"{url.rstrip('/')}/webhooks/{provider}"
    try:
        request = urllib.request.Request(address, body, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            typer.echo(f"{id} {answer.status} {answer.read().decode()}")
    except urllib.error.HTTPError as refusal:
        raise SystemExit(f"{id} {refusal.code} {refusal.read().decode()}") from None
    except (OSError, ValueError) as error:
        raise SystemExit(f"no service answers at {url}: {error}") from None
