"""The raw body of a request, bounded in size and time."""

import asyncio
from typing import Annotated

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from app.settings import settings
from app.webhooks.refusals import BodyTimeout, BodyTooLarge, SenderGone, UnsupportedEncoding


async def read_body(request: Request) -> bytes:
    """Return the body as it was sent. A FastAPI dependency.

    Raises:
        BodyTimeout: it did not arrive within `BODY_TIMEOUT_SECONDS`.
        BodyTooLarge: it has more than `MAX_BODY_BYTES`, declared or counted while it streams in.
        UnsupportedEncoding: it is compressed.
        SenderGone: the sender disconnected.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise UnsupportedEncoding(encoding)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > settings.max_body_bytes:
        raise BodyTooLarge
    try:
        async with asyncio.timeout(settings.body_timeout_seconds):
            return await _read(request)
    except TimeoutError:
        raise BodyTimeout from None
    except ClientDisconnect:
        raise SenderGone from None


async def _read(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > settings.max_body_bytes:
            raise BodyTooLarge
        chunks.append(chunk)
    # As `request.body()` does it: whoever asks for the body after this gets it, too.
    request._body = b"".join(chunks)
    return request._body


Payload = Annotated[bytes, Depends(read_body)]
"""A parameter of this type is the raw body. Verifiers have one."""
