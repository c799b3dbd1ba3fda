"""What a verifier is: it checks who sent a request, and reads the event in its body."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.datastructures import Headers

from app.events import MAX_TEXT_LENGTH, Delivery, checked_text, parse_json
from app.settings import Secrets
from app.webhooks.refusals import InvalidEvent


class Answer(Exception):
    """Raised by a verifier for an authentic request that is no event: it is answered with this.

    Some senders first ask whether an address wants their events. Nothing is stored.
    """

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Verifier(ABC):
    """A scheme by which senders prove who they are. An instance is a FastAPI dependency."""

    provider: ClassVar[str]
    """The folder in `tests/fixtures/` with samples of its events."""

    warning: ClassVar[str] = ""
    """What to log at the start about its use, if anything."""

    body_may_vary: ClassVar[bool] = False
    """Whether the deliveries of one event may differ in their bodies."""

    empty_answer: ClassVar[bool] = False
    """Whether events are acknowledged without a body, because the sender shows it to people."""

    secrets: Secrets | None = None
    """What requests are signed with. Production does not start while they are not set."""

    model: type[BaseModel] | None = None
    """What a body has to fit, for `/docs`."""

    def problem(self) -> str:
        """Return why the secrets cannot be used in production, with the remedy; "" if they can."""
        return self.secrets.problem() if self.secrets else ""

    @abstractmethod
    async def __call__(self, request: Request) -> Delivery:
        """Return the event of an authentic request.

        Raises:
            InvalidSignature: it is not authentic. Nothing in it was parsed.
            InvalidEvent: it is, but holds no event.
            Answer: it is, but asks for something else than to store an event.
        """

    def parse(self, payload: bytes) -> Any:
        """Return what a handler is given as `event.data`: the body as JSON.

        A verifier that accepts bodies of another form, such as a form field with JSON in it,
        overrides this, and fills in `Delivery.data` with it. It is called again for each attempt.

        Raises:
            InvalidEvent: the body has no such form. `event.data` is None then.
        """
        return parse_json(payload)

    @abstractmethod
    def sample(
        self, data: dict[str, Any], event_id: str, event_type: str
    ) -> tuple[bytes, dict[str, str]]:
        """Return body and headers as the sender would send `data` now, under this id and type.

        They are signed with the first secret.
        """


def keep_headers(headers: Headers, names: Iterable[str]) -> dict[str, str]:
    """Return the headers to keep with an event, of those named the ones that were sent.

    Each value is cut to 255 characters. Name none that authorises somebody, such as a signature,
    `Authorization` or `Cookie`: they would be stored and exported.
    """
    return {name: headers[name][:MAX_TEXT_LENGTH] for name in names if name in headers}


def identify(payload: bytes, event_id: object = None) -> str:
    """Return what helps to find a refused event at its sender, for the log.

    That is the SHA-256 of the body, and the event's id if it has a usable one.
    """
    digest = f"body sha256 {hashlib.sha256(payload).hexdigest()}"
    try:
        return f"id {checked_text(event_id, 'id')}, {digest}"
    except InvalidEvent:
        return digest
