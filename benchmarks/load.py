"""Signed events, each with an id of its own, and wrk to send them."""

import hashlib
import hmac
import http.client
import json
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workbench import HERE, SECRET, Pinned

STRIPE_PATH = "/webhooks/stripe"
# More than any server that checks and keeps something answers in a second, by bytes of a body.
FASTEST = {1200: 12_000, 10_000: 9_000, 100_000: 4_000}
MARK = "evt_" + "0" * 24


@dataclass(frozen=True)
class Load:
    """What wrk saw, and what it cost the server; all that the server did meanwhile counts."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_seconds: float

    @property
    def values(self) -> dict[str, float]:
        rate = self.requests / self.seconds
        cpu = 1e6 * self.cpu_seconds / self.requests
        latency = {"p50 ms": self.p50_ms, "p99 ms": self.p99_ms}
        return {"requests/s": rate, **latency, "CPU µs": cpu}


def event(size: int, id: str = MARK) -> str:
    """Return an event of that many bytes, shaped like Stripe's."""

    def line(number: int) -> dict[str, object]:
        period = {"end": 1767225600, "start": 1764547200}
        price = {"id": f"price_{number:012d}", "currency": "eur", "unit_amount": 1999}
        money = {"amount": 1999, "currency": "eur", "description": "One month of everything"}
        return {"id": f"il_{number:012d}", **money, "period": period, "price": price}

    thing: dict[str, object] = {
        "id": "ch_3P0000000000000000000000",
        "object": "charge",
        "amount": 1999,
        "billing_details": {"address": {"city": "Ghent", "country": "BE"}, "name": "A. Customer"},
        "captured": True,
        "created": 1764547200,
        "currency": "eur",
        "customer": "cus_00000000000000",
        "lines": [],
        "livemode": False,
        "metadata": {"order_id": "6735"},
        "paid": True,
        "status": "succeeded",
    }
    whole = {
        "id": id,
        "object": "event",
        "api_version": "2025-09-30",
        "created": 1764547200,
        "data": {"object": thing},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None},
        "type": "charge.succeeded",
    }
    number = (size - len(json.dumps(whole)) - 20) // (len(json.dumps(line(0))) + 2)
    thing["lines"] = [line(each) for each in range(max(number, 0))]
    thing["description"] = "x" * max(0, size - len(json.dumps(whole)) - len('"description": "", '))
    return json.dumps(whole)


def ids(number: int) -> Iterator[str]:
    """Yield ids like Stripe's: the time, the account, and at random."""
    for index in range(number):
        seconds = int(time.time() * 10) + index // 500
        yield f"evt_1{seconds % 16**5:05x}2eZvKYlo2C{secrets.token_hex(4)}"


def signature(body: bytes, timestamp: int) -> str:
    signed = b"%d.%b" % (timestamp, body)
    digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


@contextmanager
def signed_events(number: int, size: int) -> Iterator[Path]:
    """Write that many events for wrk.lua, signed now: they are good for 300 seconds."""
    head, tail = event(size).encode().split(MARK.encode())
    now = int(time.time())
    with tempfile.TemporaryDirectory(prefix="events-") as name:
        folder = Path(name)
        (folder / "head").write_bytes(head)
        (folder / "tail").write_bytes(tail)
        with (folder / "signed").open("w") as file:
            for id in ids(number):
                file.write(f"{id} {signature(head + id.encode() + tail, now)}\n")
        yield folder


def send_for(
    server: Pinned,
    seconds: float,
    size: int = 1200,
    connections: int = 32,
    path: str = STRIPE_PATH,
    faster: int = 1,
) -> Load:
    """Send as fast as answers come, for that long; fail if one of them is no 2xx.

    `faster` is how many times as fast as `FASTEST` the server may be.
    """
    _try(server, size, path)
    number = int(FASTEST[size] * seconds * faster)
    with signed_events(number, size) as folder:
        before = server.cpu_seconds()
        output = _wrk(server, path, connections, f"{max(1, round(seconds))}s", str(folder))
    used = server.cpu_seconds() - before
    seen = json.loads(output.splitlines()[-1])
    server.check()
    assert not seen["bad"], f"{seen['bad']} answers were no 2xx, or none:\n{output}"
    assert not seen["ran_out"], f"{number} events were too few: raise FASTEST"
    return Load(seen["requests"], seen["seconds"], seen["p50"], seen["p99"], used)


def send_all(server: Pinned, number: int, size: int = 1200, connections: int = 32) -> None:
    """Send that many events as fast as answers come; fail if one of them is no 2xx."""
    with signed_events(number, size) as folder:
        once = (str(folder), "once", str(connections))
        output = _wrk(server, STRIPE_PATH, connections, "1000s", *once)
    server.check()
    seen = json.loads(output.splitlines()[-1])
    assert not seen["bad"], f"{seen['bad']} answers were no 2xx"


def send_one(server: Pinned, size: int = 1200, path: str = STRIPE_PATH) -> int:
    """Send one event and return the status of the answer."""
    body = event(size, next(ids(1))).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"Stripe-Signature": signature(body, int(time.time()))}
    connection.request("POST", path, body, headers | {"Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


def _try(server: Pinned, size: int, path: str) -> None:
    status = send_one(server, size, path)  # wrk takes a redirect for a success
    assert 200 <= status < 300, f"the first answer was {status}:\n{server.printed}"


def require_wrk() -> None:
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk (Debian's and Ubuntu's package wrk)")


def _wrk(server: Pinned, path: str, connections: int, duration: str, *arguments: str) -> str:
    done = subprocess.run(
        [
            *("wrk", "--threads", "1", "--connections", str(connections), "--timeout", "30s"),
            *("--duration", duration, "--script", str(HERE / "wrk.lua")),
            *(f"http://127.0.0.1:{server.port}{path}", "--", *arguments),
        ],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()
