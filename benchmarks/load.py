"""Signed events, each with an id of its own, and clients that send them."""

import asyncio
import hashlib
import hmac
import json
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from statistics import quantiles
from typing import NamedTuple, Self

from live.processes import PATIENCE
from project import TEMPLATE

from benchmarks.results import Missing

SECRET = "whsec_measured"  # noqa: S105
FIXTURE = TEMPLATE / "provider/stripe/tests/fixtures/stripe/payment_intent.succeeded.json"
CONNECTIONS = 32
ANSWER_SECONDS = 60  # after which a sender hangs up
ID, ORDER = "<id>", "<order>"


class Request(NamedTuple):
    """A whole HTTP request, and the event in it."""

    event_id: str
    data: bytes


class Answer(NamedTuple):
    """How a delivery ended. The status is 0 if there was no answer."""

    event_id: str
    status: int
    seconds: float

    @property
    def is_acknowledged(self) -> bool:
        return 200 <= self.status < 300


def order_of(event_id: str) -> str:
    """Return the order that an event is about."""
    return f"order_{event_id}"


def body(event_id: str) -> bytes:
    """Return the template's sample of a payment, with an id and an order of its own."""
    return _sample().replace(ID, event_id).replace(ORDER, order_of(event_id)).encode()


@cache
def _sample() -> str:
    event = json.loads(FIXTURE.read_text(encoding="utf-8"))
    event["id"] = ID
    event["livemode"] = True
    event["data"]["object"]["metadata"]["order_id"] = ORDER
    return json.dumps(event, separators=(",", ":"))


def new_ids() -> Iterator[str]:
    """Yield ids like Stripe's: from the time, the account, and random digits."""
    while True:
        tenths = int(time.time() * 10) % 16**5
        # With fewer digits, an id may come twice: one effect, where two are awaited.
        yield f"evt_1{tenths:05x}2eZvKY{secrets.token_hex(6)}"


def sign(event_id: str, path: str) -> Request:
    """Return a request as Stripe would send it now. It is good for 300 seconds."""
    payload = body(event_id)
    timestamp = int(time.time())
    signed = b"%d.%b" % (timestamp, payload)
    signature = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    head = (
        f"POST {path} HTTP/1.1\r\n"
        "Host: localhost\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(payload)}\r\n"
        f"Stripe-Signature: t={timestamp},v1={signature}\r\n"
        "\r\n"
    )
    return Request(event_id, head.encode() + payload)


def sign_new(number: int, path: str) -> list[Request]:
    """Return the requests of that many new events."""
    ids = new_ids()
    return [sign(next(ids), path) for _ in range(number)]


def send(port: int, requests: Sequence[Request], connections: int = CONNECTIONS) -> list[Answer]:
    """Send all requests as fast as answers come, one at a time on each connection.

    Raises:
        Missing: an answer was not 2xx.
    """
    answers = asyncio.run(_send_all(port, requests, connections))
    refused = Counter(answer.status for answer in answers if not answer.is_acknowledged)
    if refused:
        by_status = ", ".join(f"{number} with {status}" for status, number in refused.items())
        raise Missing(f"of {len(answers)} requests, {by_status} were not acknowledged")
    return answers


def percentile_99(answers: Sequence[Answer]) -> float:
    """Return the time that only one answer in a hundred exceeds, in milliseconds."""
    return 1000 * quantiles([answer.seconds for answer in answers], n=100)[-1]


async def _send_all(port: int, requests: Sequence[Request], connections: int) -> list[Answer]:
    waiting = iter(requests)

    async def send_some() -> list[Answer]:
        connection = Connection(port)
        answers = [await connection.deliver(request) for request in waiting]
        connection.close()
        return answers

    sent = await asyncio.gather(*(send_some() for _ in range(connections)))
    return [answer for answers in sent for answer in answers]


class Connection:
    """A connection that is opened again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: asyncio.StreamWriter | None = None

    async def deliver(self, request: Request) -> Answer:
        """Send a request and wait for the answer to it."""
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status = await self._exchange(request.data)
        except (OSError, EOFError, ValueError):  # TimeoutError is an OSError
            self.close()
            status = 0
        return Answer(request.event_id, status, time.perf_counter() - begun)

    def close(self) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None

    async def _exchange(self, data: bytes) -> int:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(data)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in head:
            await self._reader.readuntil(b"0\r\n\r\n")
        else:
            _, _, length = head.partition(b"content-length:")
            await self._reader.readexactly(int(length.split()[0]))
        if b"connection: close" in head:
            self.close()
        return int(head.split()[1])


class Senders:
    """Clients that send events at a steady pace, each until it is acknowledged, as Stripe does.

    Args:
        number: How many clients there are.
        pause: Seconds between two events of a client, on average.
    """

    def __init__(self, port: int, path: str, number: int = 16, pause: float = 0.05) -> None:
        self.acknowledged: set[str] = set()
        self.refused = 0
        self._port = port
        self._path = path
        self._number = number
        self._pause = pause
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send no further event, and wait until all are acknowledged."""
        self._stopping = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "an event was not acknowledged for long"

    async def _send(self) -> None:
        await asyncio.gather(*(self._send_some() for _ in range(self._number)))

    async def _send_some(self) -> None:
        ids = new_ids()
        while not self._stopping:
            await self._send_until_acknowledged(next(ids))
            await asyncio.sleep(random.uniform(0, 2 * self._pause))  # noqa: S311

    async def _send_until_acknowledged(self, event_id: str) -> None:
        while True:
            connection = Connection(self._port)
            answer = await connection.deliver(sign(event_id, self._path))
            connection.close()
            if answer.is_acknowledged:
                self.acknowledged.add(event_id)
                return
            self.refused += 1
            await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311
