"""How a sender sends that does not sign."""

import json
from typing import Any


def deliver(data: dict[str, Any], id: str, type: str) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a delivery of `data`."""
    return json.dumps({**data, "id": id, "type": type}, indent=2, ensure_ascii=False).encode(), {}
