"""The snippet, with a handler that does nothing: for receiving alone."""

from typing import Any

import snippet


async def handle(event: dict[str, Any]) -> None:
    """Handle nothing."""


snippet.handle = handle
app = snippet.app
