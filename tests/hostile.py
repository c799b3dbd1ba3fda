"""A generated service under attack: raw requests to it, and a client that must not suffer."""

import hashlib
import hmac
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from live import PATIENCE, Database, Delivery, Server, post, sqlite_database
from project import Project

SECRET = f"whsec_{uuid.uuid4().hex}"
URL = "/webhooks/stripe"
MAX_BODY_BYTES = 200_000
BODY_SECONDS = 1
KEEP_ALIVE_SECONDS = 1


def sign(body: bytes, secret: str = SECRET, timestamp: int | None = None) -> str:
    """Sign as Stripe documents it, without a line of the project's."""
    at = int(time.time()) if timestamp is None else timestamp
    mac = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


def headers(sent: Delivery) -> list[bytes]:
    return [f"{name}: {value}".encode() for name, value in sent.headers.items()]


def request(
    sent: Delivery,
    *more: bytes,
    method: bytes = b"POST",
    target: bytes = URL.encode(),
    version: bytes = b"HTTP/1.1",
    host: tuple[bytes, ...] = (b"Host: test",),
    framing: tuple[bytes, ...] | None = None,
    body: bytes | None = None,
    close: bool = True,
) -> bytes:
    """Write a request out; whatever is not given is as it should be."""
    body = sent.body.encode() if body is None else body
    framing = (b"Content-Length: %d" % len(body),) if framing is None else framing
    last = (b"Connection: close",) if close else ()
    lines = [b" ".join((method, target, version)), *host, *headers(sent), *framing, *more, *last]
    return b"\r\n".join([*lines, b"", body])


def chunked(body: bytes, size: int, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(
        b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in [*parts, b""][:-1]
    ) + (b"0\r\n%s\r\n" % trailer)


@dataclass(frozen=True)
class Answer:
    """What came back over a connection, and whether the server ended it."""

    raw: bytes
    closed: bool

    @property
    def statuses(self) -> list[int]:
        final = re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", self.raw)
        return [int(status) for status in final]


class Client:
    """A connection on which anything can be sent."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)

    def send(self, data: bytes) -> bool:
        """Send; False if the server has closed the connection."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def read(self, seconds: float = PATIENCE) -> Answer:
        """Read until the server ends the connection, or for that long."""
        raw, deadline = b"", time.monotonic() + seconds
        try:
            while True:
                self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
                data = self.socket.recv(65536)
                if not data:
                    return Answer(raw, closed=True)
                raw += data
        except TimeoutError:
            return Answer(raw, closed=False)
        except OSError:
            return Answer(raw, closed=True)

    def leave(self, *, rudely: bool = False) -> None:
        """Close the connection, with a reset if `rudely`."""
        if rudely:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


@dataclass
class Service:
    """The service of a generated project, and what was signed for it."""

    server: Server
    database: Database
    http: str
    signed: dict[str, bytes] = field(default_factory=dict)

    def sign(self, **fields: object) -> Delivery:
        """Return a signed delivery of a new event."""
        id = f"evt_{uuid.uuid4().hex}"
        body = json.dumps({"id": id, "type": "test.happened"} | fields)
        self.signed[id] = body.encode()
        return Delivery(body, {"Stripe-Signature": sign(body.encode())})

    def connect(self) -> Client:
        return Client(self.server.port)

    def talk(self, data: bytes, seconds: float = PATIENCE) -> Answer:
        """Send this over a connection of its own, and return the answer."""
        client = self.connect()
        client.send(data)
        answer = client.read(seconds)
        client.leave()
        return answer

    def kept(self) -> dict[str, bytes]:
        """Return the payloads of all events in the inbox by id."""
        rows = self.database.rows("SELECT event_id, payload FROM inbox")
        return {str(id): payload for id, payload in rows if isinstance(payload, bytes)}

    def keeps(self, sent: Delivery) -> bool:
        return self.kept().get(json.loads(sent.body)["id"]) == sent.body.encode()

    def check(self) -> None:
        """Fail if it has ended, logged a traceback, or keeps what nobody signed."""
        self.server.check()
        assert "Traceback" not in self.server.printed, self.server.printed
        assert self.kept().items() <= self.signed.items()

    @contextmanager
    def serving_others(self) -> Iterator[None]:
        """Fail if meanwhile another client is not served as if there were nobody else."""
        stop = threading.Event()
        answers: list[tuple[Delivery, int, float]] = []

        def deliver() -> None:
            while not stop.wait(0.02):
                sent, begun = self.sign(), time.monotonic()
                answers.append((sent, post(self.server.port, sent), time.monotonic() - begun))

        other = threading.Thread(target=deliver)
        other.start()
        try:
            yield
        finally:
            stop.set()
            other.join(PATIENCE)
        assert {status for _, status, _ in answers} <= {200}
        assert max((seconds for *_, seconds in answers), default=0) < 5
        kept = self.kept()
        assert {json.loads(sent.body)["id"] for sent, *_ in answers} <= kept.keys()


@contextmanager
def serve(project: Project, folder: Path, http: str) -> Iterator[Service]:
    """Start the service of a project with limits that are soon reached."""
    with sqlite_database(folder) as database:
        environment = {
            "DATABASE_URL": database.url,
            "STRIPE_WEBHOOK_SECRET": SECRET,
            "ENVIRONMENT": "production",
            "MAX_BODY_BYTES": str(MAX_BODY_BYTES),
            "BODY_TIMEOUT_SECONDS": str(BODY_SECONDS),
        }
        app = f"app.main:app --http {http} --timeout-keep-alive {KEEP_ALIVE_SECONDS}"
        with Server(project, environment, app) as server:
            yield Service(server, database, http)
