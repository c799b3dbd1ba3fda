"""The sender's side, for development and tests: real payloads, signed as the provider would.

What runs in production only verifies; this folder and `tests/` are not in its image.
"""

import json
import uuid
from importlib import import_module
from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"


def fixtures(provider: str) -> dict[str, Path]:
    """Return the sample payloads of a provider by event type."""
    folder = FIXTURES / provider
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def delivery(provider: str, type: str, id: str = "") -> tuple[str, bytes, dict[str, str]]:
    """Return the id, the body and the headers of a sample as the provider would send it now.

    Without an `id` it is a new event. Raises `KeyError` if there is no sample of this type.
    """
    id = id or f"evt_{uuid.uuid4().hex}"
    data = json.loads(fixtures(provider)[type].read_text("utf-8"))
    sender = import_module(f"{__name__}.{provider.replace('-', '_')}")
    return id, *sender.deliver(data, id, type)
