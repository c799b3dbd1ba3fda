"""An application with one route that a verifier guards, and bodies that hold no event."""

import json
from collections.abc import Sequence
from typing import Annotated

import httpx2
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.testclient import TestClient

from app.events import Delivery
from app.webhooks.refusals import Refused
from app.webhooks.verifier import Answer, Verifier

Field = tuple[str, str | bytes]


class Receiver:
    """Receives webhooks for a verifier, and keeps the deliveries and the refusals."""

    def __init__(self, verifier: Verifier) -> None:
        self.deliveries: list[Delivery] = []
        self.refusals: list[Refused] = []
        app = FastAPI()
        self._client = TestClient(app)

        @app.post("/")
        async def receive(delivery: Annotated[Delivery, Depends(verifier)]) -> None:
            self.deliveries.append(delivery)

        @app.exception_handler(Refused)
        async def refuse(request: Request, refusal: Refused) -> Response:
            self.refusals.append(refusal)
            return await http_exception_handler(request, refusal)

        @app.exception_handler(Answer)
        async def answer(request: Request, instead: Answer) -> Response:
            return instead.response

    def post(self, payload: bytes, *fields: Field) -> httpx2.Response:
        """Post a body with header fields."""
        headers = [(name.encode(), _as_bytes(value)) for name, value in fields]
        return self._client.post("/", content=payload, headers=headers)

    def status(self, payload: bytes, *fields: Field) -> int:
        """Post, and return the status of the answer. A 401 must tell nothing else."""
        answer = self.post(payload, *fields)
        if answer.status_code == 401:
            assert answer.json() == {"detail": "invalid signature"}
        return answer.status_code

    def reasons(self) -> list[str]:
        """Return why requests were refused."""
        return [refusal.reason for refusal in self.refusals]

    def notes(self) -> Sequence[str]:
        """Return what the log says about the last refusal, beside its reason."""
        notes: list[str] = self.refusals[-1].__notes__
        return notes


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def body(**fields: object) -> bytes:
    """Return an event with some fields set, or left out if they are None."""
    event = {"id": "evt_1", "type": "test.happened", "data": {}} | fields
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


def _with(field: bytes) -> bytes:
    return body()[:-1] + b", " + field + b"}"


HALF_A_CHARACTER = body(name="\ud83d")  # escaped, as JSON allows and some senders send it

NO_EVENTS = {
    "nothing": b"",
    "a form": b"id=evt_1&type=test",
    "cut off": body()[:-1],
    "not UTF-8": _with(b'"name": "\xff\xfe"'),
    "NaN": _with(b'"n": NaN'),
    "infinite": _with(b'"n": -Infinity'),
    "a number of 5,000 digits": _with(b'"n": ' + b"9" * 5000),
    "nested too deeply": b"[" * 200_000 + b"]" * 200_000,
    "a list": b"[]",
    "a string": b'"evt_1"',
    "null": b"null",
    "no id": body(id=None),
    "an empty id": body(id=""),
    "a list as id": body(id=["evt_1"]),
    "a boolean as id": body(id=True),
    "a fraction as id": body(id=1.5),
    "NUL in the id": body(id="evt\0"),
    "half a character in the id": body(id="evt_\ud800"),
    "an id too long": body(id="x" * 256),
    "no type": body(type=None),
    "an empty type": body(type=""),
    "an object as type": body(type={"a": 1}),
    "a line break in the type": body(type="a\nb"),
    "a type too long": body(type="x" * 256),
}
