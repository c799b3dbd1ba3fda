"""Whatever is sent: no 5xx, nothing kept that is not proved, and what is kept is what was sent.

First every body with every kind of headers, then requests grown from valid ones by chance.
FUZZ_EXAMPLES is how many of these each provider gets: 800 by default. CHAOS_SEED repeats them.
"""

import gzip
import json
import os
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from conftest import Install
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from live.databases import Database, sqlite_database
from live.processes import Process, free_port, wait_for
from live.sender import SEED
from live.service import PYTHON
from project import CHOICES, Variant, clean_environment

from attacks.grown import requests
from attacks.raw import talk
from attacks.senders import CURRENT, PREVIOUS, SCHEMES, TOLERANCE, Header, Scheme

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or 800)
MAX_BODY_BYTES = 50_000


def event(event_id: object = "evt_1", event_type: object = "test.happened") -> bytes:
    return json.dumps({"id": event_id, "type": event_type, "data": {"object": {}}}).encode()


BODIES = {
    "an event": event("evt_plain"),
    "a number as id": event(42),
    "an id of 255 characters": event("é" * 255),
    "an id of 256 characters": event("x" * 256),
    "an empty id": event(""),
    "null as id": event(None),
    "true as id": event(True),
    "an object as id": event({"a": 1}),
    "a fraction as id": event(1.5),
    "an id with a NUL": event("evt_\0"),
    "an id with a line break": event("evt_\n"),
    "an id with half a character": event("evt_\ud800"),
    "an id that turns text around": event("evt_\u202e"),
    "a list as type": event("evt_list", ["test.happened"]),
    "a type with an escape": event("evt_escape", "\x1b[31m"),
    "no id": b'{"type": "test.happened", "data": {}}',
    "no type": b'{"id": "evt_typeless", "data": {}}',
    "no data": b'{"id": "evt_dataless", "type": "test.happened"}',
    "half a character within": b'{"id": "evt_half", "type": "t", "data": {"a": "\\ud800"}}',
    "two ids": b'{"id": "evt_first", "id": "evt_second", "type": "t", "data": {}}',
    "NaN": b'{"id": "evt_nan", "type": "t", "data": {"a": NaN}}',
    "a number beyond all": b'{"id": "evt_1e999", "type": "t", "data": {"a": 1e999}}',
    "5,000 digits": b'{"id": "evt_digits", "type": "t", "data": {"a": ' + b"9" * 5000 + b"}}",
    "deep nesting": b"[" * 20_000 + b"]" * 20_000,
    "nesting without end": b'{"id": ' * 5000,
    "nothing": b"",
    "a blank": b" ",
    "null": b"null",
    "a number": b"1",
    "a text": b'"evt_text"',
    "a list": b'[{"id": "evt_in_list", "type": "t"}]',
    "a form": b"id=evt_form&type=t",
    "XML": b"<event id='evt_xml'/>",
    "two events": event("evt_one") + event("evt_two"),
    "half an event": event("evt_cut")[:-9],
    "a mark before it": b"\xef\xbb\xbf" + event("evt_bom"),
    "UTF-16": event("evt_utf16").decode().encode("utf-16"),
    "no UTF-8": event("evt_latin").replace(b"test", b"t\xe9st"),
    "NULs": bytes(100),
    "compressed": gzip.compress(event("evt_gzip")),
    "as much as is allowed": event("evt_full") + b" " * (MAX_BODY_BYTES - len(event("evt_full"))),
    "one byte too much": event("evt_over") + b" " * (MAX_BODY_BYTES - len(event("evt_over")) + 1),
}


def replaced(old: bytes, new: bytes) -> Callable[[Scheme, bytes], list[Header]]:
    """Return what signs, and then replaces a part of each header's value."""
    return lambda scheme, body: [
        (name, value.replace(old, new)) for name, value in scheme.sign(body)
    ]


def signed_at(seconds: int) -> Callable[[Scheme, bytes], list[Header]]:
    return lambda scheme, body: scheme.sign(body, timestamp=b"%d" % (time.time() + seconds))


def with_value(value: bytes) -> Callable[[Scheme, bytes], list[Header]]:
    return lambda scheme, body: [(name, value) for name, _ in scheme.sign(body)]


def with_header(name: bytes, value: bytes) -> Callable[[Scheme, bytes], list[Header]]:
    return lambda scheme, body: [*scheme.sign(body), (name, value)]


HEADERS: dict[str, Callable[[Scheme, bytes], list[Header]]] = {
    "signed": lambda scheme, body: scheme.sign(body, CURRENT),
    "signed with the previous secret": lambda scheme, body: scheme.sign(body, PREVIOUS),
    "signed with another secret": lambda scheme, body: scheme.sign(body, "other"),
    "signed with no secret": lambda scheme, body: scheme.sign(body, ""),
    "the signature of another body": lambda scheme, body: scheme.sign(body + b" "),
    "no signature": lambda scheme, body: [],
    "an empty signature": with_value(b""),
    "a blank signature": with_value(b" \t"),
    "commas": with_value(b",,,"),
    "no ASCII": with_value(b"t=1,v1=\xff\xfe"),
    "other digits": with_value("t=١٧٦,v1=٣".encode()),
    "no time": replaced(b"t=", b"x="),
    "an older version": replaced(b"v1=", b"v0="),
    "a longer time": replaced(b"t=", b"t=" + b"9" * 5000),
    "a negative time": replaced(b"t=", b"t=-"),
    "a time in words": with_value(b"t=now,v1=" + b"0" * 64),
    "a thousand signatures": replaced(b"v1=", b"v1=00,v1=" * 500 + b"v1="),
    "a signature of 50 KB": with_value(b"v1=" + b"0" * 50_000),
    "stale": signed_at(-TOLERANCE - 60),
    "from the future": signed_at(TOLERANCE + 60),
    "twice": lambda scheme, body: scheme.sign(body) * 2,
    "a wrong one first": lambda scheme, body: scheme.sign(body, "other") + scheme.sign(body),
    "capital letters": lambda scheme, body: [(n.upper(), v) for n, v in scheme.sign(body)],
    "blanks around": lambda scheme, body: [(n, b" " + v + b"\t") for n, v in scheme.sign(body)],
    "plain text": with_header(b"Content-Type", b"text/plain"),
    "a type that is none": with_header(b"Content-Type", b"\xff; charset=\xff"),
    "said to be compressed": with_header(b"Content-Encoding", b"gzip"),
    "said to be no ASCII": with_header(b"Content-Encoding", b"\xff"),
    "a cookie that is none": with_header(b"Cookie", b"\xff=;;=\xff"),
}


@dataclass
class Target:
    """A service, and what it has let in so far."""

    scheme: Scheme
    port: int
    database: Database
    documented: set[int]
    last: int = 0
    kept: dict[str, bytes] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)

    def check(self, headers: list[Header], body: bytes) -> None:
        """Send a request, and fail if anything that becomes of it is not as promised."""
        status, answer = self._send(headers, body)
        kept = self._newly_kept()
        assert status in self.documented
        if status != 200:
            assert status < 500
            assert kept == []
            assert status != 401 or answer == b'{"detail":"invalid signature"}'
            assert status != 413 or len(body) > MAX_BODY_BYTES
            return
        assert self.scheme.proves(headers, body)
        event_id, event_type = self.scheme.event(headers, body)
        assert kept in ([(event_id, event_type, body)], [])
        assert event_id in self.kept

    def _send(self, headers: list[Header], body: bytes) -> tuple[int, bytes]:
        # What would end a line is left out, or else it would be another request.
        lines = [f"POST /webhooks/{self.scheme.provider} HTTP/1.1".encode(), b"Host: test"]
        lines += [b"%b: %b" % header for header in headers]
        lines += [b"Connection: close", b"Content-Length: %d" % len(body)]
        clean = [line.replace(b"\r", b"").replace(b"\n", b"") for line in lines]
        reply = talk(self.port, b"\r\n".join([*clean, b"", body]))
        [status] = reply.statuses
        self.statuses[status] += 1
        return status, reply.raw.partition(b"\r\n\r\n")[2]

    def _newly_kept(self) -> list[tuple[object, ...]]:
        """Return id, type and payload of what was kept since the last call."""
        what = "id, event_id, event_type, payload"
        rows = self.database.rows(
            f"SELECT {what} FROM webhook_events WHERE id > {self.last} ORDER BY id"  # noqa: S608
        )
        for number, event_id, _, payload in rows:
            assert isinstance(number, int)
            assert isinstance(payload, bytes)
            self.last, self.kept[str(event_id)] = number, payload
        return [row[1:] for row in rows]


@pytest.fixture(scope="module", params=SCHEMES, ids=lambda scheme: scheme.provider)
def target(
    request: pytest.FixtureRequest, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    scheme: Scheme = request.param
    project = install(Variant(scheme.provider, CHOICES["processing"][0]))
    port = free_port()
    with sqlite_database(tmp_path_factory.mktemp("target")) as database:
        environment = clean_environment(
            **scheme.settings,
            DATABASE_URL=database.url,
            ENVIRONMENT="development",
            MAX_BODY_BYTES=str(MAX_BODY_BYTES),
            MAX_ATTEMPTS="1",
        )
        command = f"{PYTHON}uvicorn app.main:app --port {port}"
        with Process(project.path, command, environment) as server:
            server.wait_for_port(port)
            yield Target(scheme, port, database, documented_statuses(port, scheme.provider))
            # Odd events, too, are handled to an end.
            wait_for(lambda: database.count("state = 'pending'") == 0, "all to be done or dead")
            server.check()
            assert "Traceback" not in server.printed


def documented_statuses(port: int, provider: str) -> set[int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json") as answer:
        operation = json.load(answer)["paths"][f"/webhooks/{provider}"]["post"]
    return {int(status) for status in operation["responses"]}


def test_every_provider_has_a_scheme_to_attack_it_with() -> None:
    assert [scheme.provider for scheme in SCHEMES] == CHOICES["provider"]


@pytest.mark.parametrize("headers", HEADERS)
def test_every_body_under_these_headers_is_answered_as_promised(
    target: Target, headers: str
) -> None:
    for body in map(target.scheme.complete, BODIES.values()):
        target.check(HEADERS[headers](target.scheme, body), body)


def test_no_request_grown_from_a_valid_one_breaks_a_promise(target: Target) -> None:
    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        target.check(*data.draw(requests(target.scheme, int(time.time()))))

    before = target.statuses.copy()
    run()
    statuses = target.statuses - before
    # Neither all refused nor all let in, or this would prove little.
    assert 10 < statuses[200] < statuses.total() - 10
