"""How your sender sends: as `app/providers/custom.py` says that it signs."""

import json
import time
from typing import Any

from app.providers.custom import secrets, settings, sign


def deliver(data: dict[str, Any], id: str, type: str) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a delivery of `data`, signed with the first secret."""
    headers: dict[str, str] = {}
    data = json.loads(json.dumps(data))
    for place, value in ((settings.custom_webhook_id, id), (settings.custom_webhook_type, type)):
        kind, _, path = place.partition(":")
        *parents, key = path.split(".")
        target: dict[str, Any] = headers if kind == "header" else data
        for parent in parents:
            target = target.setdefault(parent, {})
        target[key] = value
    payload = json.dumps(data, indent=2, ensure_ascii=False).encode()
    timestamp = None
    if settings.custom_webhook_timestamp_header:
        timestamp = headers[settings.custom_webhook_timestamp_header] = str(int(time.time()))
    headers[settings.custom_webhook_header] = sign(payload, next(iter(secrets), ""), timestamp)
    return payload, headers
