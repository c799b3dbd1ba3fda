"""Requests as bytes, right and wrong ones, and connections to send them on."""

import re
import socket
import time
from dataclasses import dataclass

from live.processes import PATIENCE
from live.sender import PATH, signature

CHUNKED = (b"Transfer-Encoding: chunked",)
UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")


def signed(body: bytes) -> bytes:
    """Return the header line that a request with this body needs."""
    return b"Stripe-Signature: " + signature(body).encode()


def request(
    body: bytes,
    *more: bytes,
    method: bytes = b"POST",
    target: bytes = PATH.encode(),
    version: bytes = b"HTTP/1.1",
    host: bytes | None = b"test",
    sign: bytes | None = None,
    framing: tuple[bytes, ...] | None = None,
    sent_body: bytes | None = None,
    close: bool = True,
) -> bytes:
    """Write a request out. Whatever is not given is as it should be.

    Args:
        body: The body that is signed.
        more: Header lines.
        sign: The line with the signature; empty for none.
        framing: The lines that say how long the body is.
        sent_body: What is sent instead of the body.
    """
    sent = body if sent_body is None else sent_body
    lines = [b" ".join((method, target, version))]
    lines += [b"Host: " + host] if host is not None else []
    lines += [signed(body)] if sign is None else filter(None, [sign])
    lines += [b"Content-Length: %d" % len(sent)] if framing is None else framing
    lines += more
    lines += [b"Connection: close"] if close else []
    return b"\r\n".join([*lines, b"", sent])


def chunked(body: bytes, size: int, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    """Return a body in chunks of a size."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = [b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts]
    return b"".join(chunks) + b"0\r\n%s\r\n" % trailer


@dataclass(frozen=True)
class Reply:
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
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)

    def send(self, data: bytes) -> bool:
        """Send; False if the server has closed the connection."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def read(self, seconds: float = PATIENCE) -> Reply:
        """Read until the server ends the connection, or for that long."""
        raw, deadline = b"", time.monotonic() + seconds
        try:
            while True:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                data = self._socket.recv(65536)
                if not data:
                    return Reply(raw, closed=True)
                raw += data
        except TimeoutError:
            return Reply(raw, closed=False)
        except OSError:
            return Reply(raw, closed=True)

    def leave(self, *, rudely: bool = False) -> None:
        """Close the connection, with a reset if `rudely`."""
        if rudely:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._socket.close()


def talk(port: int, data: bytes) -> Reply:
    """Send this over a connection of its own, and return the reply."""
    client = Client(port)
    client.send(data)
    reply = client.read()
    client.leave()
    return reply
