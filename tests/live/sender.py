"""A stand-in for Stripe: it signs events, and sends each until the answer is 2xx.

Its random choices follow from SEED. Tests report it; set CHAOS_SEED to repeat them.
"""

import asyncio
import hashlib
import hmac
import json
import os
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Self

from live.processes import PATIENCE

SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
SECRET = "whsec_of_the_attacks"  # noqa: S105
PATH = "/webhooks/stripe"
ANSWER_SECONDS = 15  # after which a sender hangs up


def signature(body: bytes, secret: str = SECRET, timestamp: int | None = None) -> str:
    """Sign as Stripe documents it, without the code of the project."""
    at = int(time.time()) if timestamp is None else timestamp
    mac = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


def event(event_id: str, event_type: str = "test.happened", padding: int = 0) -> bytes:
    """Return the body of an event, made larger by `padding` bytes."""
    thing = {"id": "in_1", "object": "invoice", "description": "x" * padding}
    data = {"id": event_id, "object": "event", "type": event_type, "data": {"object": thing}}
    return json.dumps(data).encode()


def request(body: bytes, connection: str) -> bytes:
    """Return a whole request, signed now."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n"
        f"Stripe-Signature: {signature(body)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(frozen=True)
class Answer:
    """How a delivery ended; the status is 0 if there was no answer."""

    event_id: str
    status: int
    retry_after: bool
    begun: float  # seconds since the epoch, as the inbox has it
    seconds: float
    failure: str = ""

    @property
    def ended(self) -> float:
        return self.begun + self.seconds

    @property
    def is_acknowledged(self) -> bool:
        return 200 <= self.status < 300


class Sender:
    """Sends events, each until it is acknowledged, some more than once.

    Args:
        ports: Where the service is; each delivery goes to one of them.
        number: How many events it sends at a time.
        pause: Seconds from an event to the next one in its place, on average.
    """

    def __init__(self, ports: Sequence[int], number: int = 8, pause: float = 0.05) -> None:
        self.answers: list[Answer] = []
        self._ports = ports
        self._seeds = [SEED * 1000 + index for index in range(number)]
        self._pause = pause
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send_all()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        self._stopping = True
        if failure is None:
            self.stop()

    def stop(self) -> None:
        """Send no further event, and wait until all are acknowledged."""
        self._stopping = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), f"not acknowledged for long: {self.answers[-3:]}"

    async def _send_all(self) -> None:
        await asyncio.gather(*(self._send(random.Random(seed)) for seed in self._seeds))  # noqa: S311

    async def _send(self, chance: random.Random) -> None:
        sent: list[str] = []
        while not self._stopping:
            event_id = f"evt_{chance.getrandbits(96):024x}"
            sent.append(event_id)
            copies = [event_id] * chance.choice((1, 1, 1, 1, 1, 1, 2, 3))  # at the same time
            if chance.random() < 0.1:
                copies.append(chance.choice(sent))  # or again, later
            await asyncio.gather(*(self._deliver(copy, chance) for copy in copies))
            await asyncio.sleep(chance.uniform(0, 2 * self._pause))

    async def _deliver(self, event_id: str, chance: random.Random) -> None:
        while True:
            answer = await _post(chance.choice(self._ports), event_id)
            self.answers.append(answer)
            if answer.is_acknowledged:
                return
            await asyncio.sleep(chance.uniform(0.1, 0.5))


def deliver(
    ports: Sequence[int], event_id: str, event_type: str = "test.happened", times: int = 1
) -> list[Answer]:
    """Deliver an event `times` times at once, to each port in turn."""

    async def deliver_all() -> list[Answer]:
        turns = islice(cycle(ports), times)
        return await asyncio.gather(*(_post(port, event_id, event_type) for port in turns))

    return asyncio.run(deliver_all())


def flood(port: int, event_ids: Sequence[str], size: int, connections: int = 16) -> list[Answer]:
    """Deliver events of `size` bytes, each until acknowledged, as fast as the answers come."""
    waiting = iter(event_ids)
    answers: list[Answer] = []

    async def send() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for event_id in waiting:
            whole = request(event(event_id, padding=size), "keep-alive")
            status = 0
            while status != 200:
                begun, clock = time.time(), time.monotonic()
                writer.write(whole)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
                status, retry_after = int(head[9:12]), b"\r\nretry-after: " in head
                seconds = time.monotonic() - clock
                answers.append(Answer(event_id, status, retry_after, begun, seconds))
        writer.close()

    async def send_all() -> None:
        await asyncio.gather(*(send() for _ in range(connections)))

    asyncio.run(send_all())
    return answers


async def _post(port: int, event_id: str, event_type: str = "test.happened") -> Answer:
    whole = request(event(event_id, event_type), "close")
    begun, clock = time.time(), time.monotonic()
    status, retry_after, failure = 0, False, ""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await _talk(port, whole)
        if answer.startswith(b"HTTP/1.1 "):
            status, retry_after = int(answer[9:12]), b"\nretry-after: " in answer.lower()
        else:
            failure = f"answered {answer!r}"
    except OSError as error:  # and TimeoutError, which is one
        failure = repr(error)
    return Answer(event_id, status, retry_after, begun, time.monotonic() - clock, failure)


async def _talk(port: int, whole: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(whole)
        return await reader.read()
    finally:
        writer.close()


def percentile_99(answers: Sequence[Answer]) -> float:
    """Return the time that only one answer in a hundred exceeds, in milliseconds."""
    times = sorted(answer.seconds for answer in answers if answer.status)
    return round(1000 * times[len(times) * 99 // 100], 1)


def first_acknowledged(answers: Sequence[Answer]) -> dict[str, float]:
    """Return when each acknowledged event was first answered with 2xx."""
    first: dict[str, float] = {}
    for answer in sorted(answers, key=lambda answer: answer.ended):
        if answer.is_acknowledged:
            first.setdefault(answer.event_id, answer.ended)
    return first
