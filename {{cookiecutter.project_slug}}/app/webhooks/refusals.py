"""The refusals of a webhook. FastAPI answers each with its status; the route logs its reason."""

from typing import Any

from fastapi import HTTPException, status


class Refused(HTTPException):
    """A request that is not accepted.

    `detail` is for the sender and says little. `reason` is for the log and the counter, and quotes
    nothing of the request. Notes (`add_note`) are for the log only: ids that help to find the
    delivery at its sender.
    """

    def __init__(
        self, status_code: int, detail: Any, reason: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status_code, detail, headers)
        self.reason = reason


class InvalidSignature(Refused):
    """401: the signature is missing, malformed, wrong, stale or from the future."""

    def __init__(self, reason: str) -> None:
        super().__init__(status.HTTP_401_UNAUTHORIZED, "invalid signature", reason)


class InvalidEvent(Refused):
    """400: the sender is who it should be, but the body is not an event."""

    def __init__(self, reason: str) -> None:
        super().__init__(status.HTTP_400_BAD_REQUEST, f"invalid event: {reason}", reason)


class BodyTimeout(Refused):
    """408: the body did not arrive in time. The rest of it will not be read."""

    def __init__(self) -> None:
        detail = "the body did not arrive in time"
        headers = {"Connection": "close"}
        super().__init__(status.HTTP_408_REQUEST_TIMEOUT, detail, "body too slow", headers)


class BodyTooLarge(Refused):
    """413: the body is over the limit. The rest of it will not be read."""

    def __init__(self) -> None:
        detail = "the body is too large"
        headers = {"Connection": "close"}
        super().__init__(status.HTTP_413_CONTENT_TOO_LARGE, detail, "body too large", headers)


class UnsupportedEncoding(Refused):
    """415: the body is compressed. Signatures are made over what is sent, so it stays that way."""

    def __init__(self, encoding: str) -> None:
        detail = "send the body without Content-Encoding"
        super().__init__(status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, detail, "unsupported encoding")
        self.add_note(f"Content-Encoding {encoding[:20]!a}")


class SenderGone(Refused):
    """400: the sender disconnected before the body was complete. Nobody reads this answer."""

    def __init__(self) -> None:
        super().__init__(status.HTTP_400_BAD_REQUEST, "the body is incomplete", "sender gone")
