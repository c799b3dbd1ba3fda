"""The floor: ASGI without a framework, the signature checked, nothing stored."""

from collections.abc import Awaitable, Callable
from typing import Any

from signature import is_right

Message = dict[str, Any]


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    status = 200 if is_right(dict(scope["headers"])[b"stripe-signature"].decode(), body) else 401
    headers = [(b"content-type", b"application/json"), (b"content-length", b"18")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"received": true}'})
