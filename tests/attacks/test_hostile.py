"""Slow and broken clients get an answer or the door, and nobody else notices them."""

import json
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from conftest import Install
from live.databases import Database, sqlite_database
from live.processes import PATIENCE, Process, free_port
from live.sender import SECRET
from live.service import PYTHON
from project import Project, Variant, clean_environment

from attacks.raw import CHUNKED, UPGRADE, Client, Reply, chunked, request, signed, talk

MAX_BODY_BYTES = 200_000
BODY_SECONDS = 1
KEEP_ALIVE_SECONDS = 1

Build = Callable[[bytes], bytes]


@dataclass
class Target:
    """A service that stops waiting soon, and what was signed for it."""

    server: Process
    port: int
    database: Database
    parser: str
    signed: dict[str, bytes] = field(default_factory=dict)

    def event(self, **fields: object) -> bytes:
        """Return the body of a new event."""
        event_id = f"evt_{uuid.uuid4().hex}"
        body = json.dumps({"id": event_id, "type": "test.happened"} | fields).encode()
        self.signed[event_id] = body
        return body

    def connect(self) -> Client:
        return Client(self.port)

    def talk(self, data: bytes) -> Reply:
        return talk(self.port, data)

    def post(self, body: bytes) -> int:
        [status] = self.talk(request(body)).statuses
        return status

    def kept(self) -> dict[str, bytes]:
        """Return the payloads of all events in the inbox by id."""
        rows = self.database.rows("SELECT event_id, payload FROM webhook_events")
        return {str(each): payload for each, payload in rows if isinstance(payload, bytes)}

    def keeps(self, body: bytes) -> bool:
        return self.kept().get(json.loads(body)["id"]) == body

    def check(self) -> None:
        """Fail if it has ended, logged a traceback, or keeps what nobody signed."""
        self.server.check()
        assert "Traceback" not in self.server.printed, self.server.printed
        assert self.kept().items() <= self.signed.items()

    @contextmanager
    def serving_others(self) -> Iterator[None]:
        """Fail if meanwhile another client is not served as if there were nobody else."""
        stop = threading.Event()
        sent: list[bytes] = []
        statuses: list[int] = []
        seconds: list[float] = []

        def deliver() -> None:
            while not stop.wait(0.02):
                sent.append(self.event())
                begun = time.monotonic()
                statuses.append(self.post(sent[-1]))
                seconds.append(time.monotonic() - begun)

        other = threading.Thread(target=deliver)
        other.start()
        try:
            yield
        finally:
            stop.set()
            other.join(PATIENCE)
        assert set(statuses) <= {200}
        assert max(seconds, default=0) < 5
        assert set(sent) <= set(self.kept().values())


@contextmanager
def serve(project: Project, database: Database, parser: str) -> Iterator[Target]:
    """Start the service of a project with limits that are soon reached."""
    port = free_port()
    environment = clean_environment(
        DATABASE_URL=database.url,
        STRIPE_WEBHOOK_SECRET=SECRET,
        ENVIRONMENT="production",
        MAX_BODY_BYTES=str(MAX_BODY_BYTES),
        BODY_TIMEOUT_SECONDS=str(BODY_SECONDS),
    )
    # The image has no library for WebSockets. What developers install brings one.
    options = f"--ws none --http {parser} --timeout-keep-alive {KEEP_ALIVE_SECONDS}"
    command = f"{PYTHON}uvicorn app.main:app --port {port} {options}"
    project.run(f"{PYTHON}app migrate", PATIENCE, **environment)
    with Process(project.path, command, environment) as server:
        server.wait_for_port(port)
        yield Target(server, port, database, parser)


@pytest.fixture(scope="module", params=["httptools", "h11"])
def running(
    request: pytest.FixtureRequest, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    project = install(Variant("stripe", "background"))
    with (
        sqlite_database(tmp_path_factory.mktemp("hostile")) as database,
        serve(project, database, request.param) as target,
    ):
        yield target


@pytest.fixture
def target(running: Target) -> Iterator[Target]:
    """The service, which throughout each test serves another client, and survives."""
    with running.serving_others():
        yield running
    assert running.post(running.event()) == 200
    running.check()


def length(value: bytes) -> Build:
    return lambda body: request(body, framing=(b"Content-Length: " + value,))


def chunks(raw: bytes) -> Build:
    return lambda body: request(body, framing=CHUNKED, sent_body=raw)


def header(line: bytes) -> Build:
    return lambda body: request(body, line)


def target_of(path: bytes, method: bytes = b"POST") -> Build:
    return lambda body: request(body, target=path, method=method)


# What is signed correctly each time, but does not arrive as HTTP has it; and how it is refused
# by the one parser or the other.
BROKEN: dict[str, tuple[Build, set[int]]] = {
    "a length that is too short": (length(b"5"), {401}),
    "a length that is too long": (length(b"9999"), {408}),
    "a length beyond the limit": (length(b"99999999"), {413}),
    "a length of 2^63": (length(b"9223372036854775808"), {400, 413}),
    "a length of 5,000 digits": (length(b"9" * 5000), {400}),
    "a negative length": (length(b"-1"), {400}),
    "a length with a sign": (length(b"+5"), {400}),
    "a length that is no number": (length(b"many"), {400}),
    "a length in hexadecimal": (length(b"0x10"), {400}),
    "an empty length": (length(b""), {400}),
    "no length": (lambda body: request(body, framing=()), {401}),
    "two lengths": (header(b"Content-Length: 5"), {400}),
    "a list of lengths": (length(b"5, 6"), {400}),
    "a length and chunks": (
        lambda body: request(body, *CHUNKED, sent_body=chunked(body, 9)),
        {400, 200},  # h11 does what RFC 9112 says: the chunks count
    ),
    "an encoding that nobody knows": (
        lambda body: request(body, framing=(b"Transfer-Encoding: x",)),
        {400},
    ),
    "chunks within chunks": (
        lambda body: request(body, framing=(b"Transfer-Encoding: chunked, chunked",)),
        {400},
    ),
    "a chunk whose size is no number": (chunks(b"zz\r\nabc\r\n0\r\n\r\n"), {400}),
    "a chunk whose size is negative": (chunks(b"-5\r\nabcde\r\n0\r\n\r\n"), {400}),
    "a chunk of a size beyond everything": (chunks(b"f" * 20 + b"\r\nabc"), {400, 408}),
    "a chunk longer than its size": (chunks(b"3\r\nabcde\r\n0\r\n\r\n"), {400}),
    "chunks without an end": (chunks(b"3\r\nabc\r\n"), {408}),
    "a NUL in a header": (header(b"X: a\0b"), {400}),
    "a NUL in a header's name": (header(b"X\0: a"), {400}),
    "a header without a colon": (header(b"X"), {400}),
    "a space before the colon": (header(b"X : a"), {400}),
    "a query that is not ASCII": (target_of(b"/webhooks/stripe?\xff"), {400}),
    "a path with a NUL": (target_of(b"/webhooks/stripe%00"), {404}),
    "a path that is not UTF-8": (target_of(b"/webhooks/stripe%ff"), {404}),
    "two slashes": (target_of(b"//webhooks/stripe"), {404}),
    "an asterisk for a path": (target_of(b"*"), {404}),
    "a host for a path": (target_of(b"http://test"), {400, 404}),
    "CONNECT": (target_of(b"test:80", b"CONNECT"), {400, 404}),
    "TRACE": (target_of(b"/webhooks/stripe", b"TRACE"), {405}),
    "a method that nobody knows": (target_of(b"/webhooks/stripe", b"FETCH"), {400, 405}),
    "a method in small letters": (target_of(b"/webhooks/stripe", b"post"), {400, 405}),
    "HTTP/0.9": (lambda _: b"GET /webhooks/stripe\r\n\r\n", {400, 405}),
    "the preface of HTTP/2": (lambda _: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 404}),
    "TLS": (lambda _: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), {400}),
    "every byte there is": (lambda _: bytes(range(256)), {400}),
    "a WebSocket": (
        lambda body: request(body, *UPGRADE, method=b"GET", framing=(), sent_body=b""),
        {405},
    ),
    "an upgrade to a WebSocket": (
        lambda body: request(body, *UPGRADE),
        {200, 401},  # httptools does not read on, so that the body is lost
    ),
    "an upgrade to HTTP/2": (
        lambda body: request(body, b"Connection: Upgrade", b"Upgrade: h2c"),
        {200, 401},
    ),
    "a compressed body": (
        lambda body: request(body, b"Content-Encoding: gzip", sent_body=b"\x1f\x8b" + bytes(20)),
        {415},
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_request_is_refused_or_else_kept_whole(target: Target, name: str) -> None:
    build, statuses = BROKEN[name]
    body = target.event()
    reply = target.talk(build(body))
    assert reply.closed
    assert reply.statuses
    assert set(reply.statuses) <= statuses
    assert target.keeps(body) == (reply.statuses == [200])


ODD: dict[str, Build] = {
    "HTTP/1.0": lambda body: request(body, version=b"HTTP/1.0", host=None, close=False),
    "Expect: 100-continue": header(b"Expect: 100-continue"),
    "another expectation": header(b"Expect: the-unexpected"),
    "an escaped path": target_of(b"/webhooks/%73tripe"),
    "a query": target_of(b"/webhooks/stripe?%ff=%00&a"),
    "a host with a slash": lambda body: request(body, host=b"test/path"),
    "a host with a bracket": lambda body: request(body, host=b"["),
    "a host that is not ASCII": lambda body: request(body, host=b"\xff\xfe"),
    "header names in capitals": lambda body: request(body, sign=signed(body).replace(b"S", b"s")),
    "a second signature, of another body": lambda body: request(body, signed(b"another")),
    "a type that is not JSON": header(b"Content-Type: application/x\xff"),
    "an upgrade by the header alone": header(b"Upgrade: h2c"),
    "a header of 60 KB": header(b"X: " + b"a" * 60_000),
    "a thousand headers": lambda body: request(body, *(b"X-%d: a" % n for n in range(1000))),
    "chunks of one byte": lambda body: request(body, framing=CHUNKED, sent_body=chunked(body, 1)),
    "chunks with extensions and a trailer": lambda body: request(
        body, framing=CHUNKED, sent_body=chunked(body, 7, b";a=b", b"X-Trailer: a\r\n")
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_but_right_request_is_acknowledged_and_kept(target: Target, name: str) -> None:
    body = target.event()
    reply = target.talk(ODD[name](body))
    assert (reply.statuses, reply.closed) == ([200], True)
    assert target.keeps(body)


def test_the_target_may_be_a_whole_url_where_the_parser_knows_them(target: Target) -> None:
    body = target.event()
    reply = target.talk(request(body, target=b"http://test/webhooks/stripe"))
    assert reply.statuses == [{"httptools": 200, "h11": 404}[target.parser]]
    assert target.keeps(body) == (reply.statuses == [200])


@pytest.mark.parametrize("framing", [(), CHUNKED])
def test_a_body_that_trickles_in_is_refused_in_time(
    target: Target, framing: tuple[bytes, ...]
) -> None:
    body = target.event()
    sent = chunked(body, 1) if framing else body
    whole = request(body, framing=framing or None, sent_body=sent)
    client, begun = target.connect(), time.monotonic()
    client.send(whole[: -len(sent)])
    for at in range(len(sent)):
        if not client.send(sent[at : at + 1]) or client.read(0.1).closed:
            break
    assert BODY_SECONDS * 0.9 < time.monotonic() - begun < BODY_SECONDS + 3
    assert not target.keeps(body)
    client.leave()


def test_a_sender_of_a_body_that_does_not_come_is_told_so(target: Target) -> None:
    body = target.event()
    reply = target.talk(request(body)[:-1])
    assert (reply.statuses, reply.closed) == ([408], True)
    assert not target.keeps(body)


def test_who_takes_long_over_the_headers_holds_a_connection_and_no_more(target: Target) -> None:
    """The README says so: a proxy is to bound it, uvicorn has no setting that does."""
    whole = request(target.event())
    client = target.connect()
    for at in range(30):
        assert client.send(whole[at : at + 1])
        assert client.read(0.1) == Reply(b"", closed=False)
    assert client.send(whole[30:])
    assert client.read().statuses == [200]
    client.leave()


def test_a_connection_that_says_nothing_more_is_closed(target: Target) -> None:
    begun = time.monotonic()
    reply = target.talk(request(target.event(), close=False))
    assert (reply.statuses, reply.closed) == ([200], True)
    assert time.monotonic() - begun < KEEP_ALIVE_SECONDS + 3


@pytest.mark.parametrize("rudely", [False, True])
def test_a_client_that_leaves_mid_body_leaves_nothing(target: Target, rudely: bool) -> None:
    bodies = [target.event() for _ in range(20)]
    for body in bodies:
        client = target.connect()
        client.send(request(body)[:-5])
        client.leave(rudely=rudely)
    time.sleep(0.2)
    assert not any(map(target.keeps, bodies))


def test_who_does_not_wait_for_the_answer_may_send_again(target: Target) -> None:
    bodies = [target.event() for _ in range(20)]
    for body in bodies:
        client = target.connect()
        client.send(request(body))
        client.leave(rudely=True)
    assert [target.post(body) for body in bodies] == [200] * 20
    assert all(map(target.keeps, bodies))


def test_a_body_may_have_exactly_the_limit(target: Target) -> None:
    empty = len(target.event(padding=""))
    largest = target.event(padding="x" * (MAX_BODY_BYTES - empty))
    assert target.post(largest) == 200
    assert target.keeps(largest)
    larger = target.event(padding="x" * (MAX_BODY_BYTES - empty + 1))
    assert target.post(larger) == 413
    in_chunks = request(larger, framing=CHUNKED, sent_body=chunked(larger, 50_000))
    assert target.talk(in_chunks).statuses == [413]
    assert not target.keeps(larger)


def test_an_endless_body_is_cut_off(target: Target) -> None:
    client = target.connect()
    client.send(request(target.event(), framing=CHUNKED, sent_body=b""))
    chunk = chunked(b"x" * 100_000, 100_000).removesuffix(b"0\r\n\r\n")
    sent = 0
    while client.send(chunk):
        sent += 1
        assert sent < 500
    client.leave()


def test_headers_without_end_are_cut_off_where_the_parser_has_a_limit(target: Target) -> None:
    """The README says which one has."""
    for many in (b"X: " + b"a" * 1_000_000, b"\r\n".join([b"X: a"] * 100_000)):
        reply = target.talk(request(target.event(), many))
        assert reply.closed
        assert reply.statuses in ([[200]] if target.parser == "httptools" else [[400], []])


def test_requests_in_one_packet_are_all_answered_and_kept(target: Target) -> None:
    bodies = [target.event() for _ in range(5)]
    packet = b"".join(request(body, close=False) for body in [*bodies, *bodies])
    assert target.talk(packet).statuses == [200] * 10
    assert all(map(target.keeps, bodies))


def test_what_follows_a_refused_request_in_its_packet_is_judged_by_itself(target: Target) -> None:
    first, wrong, last = (target.event() for _ in range(3))
    refused = request(wrong, sign=signed(b"another body"), close=False)
    packet = request(first, close=False) + refused + request(last, close=False)
    reply = target.talk(packet)
    assert reply.statuses in ([200, 401], [200, 401, 200])
    kept = [target.keeps(body) for body in (first, wrong, last)]
    assert kept == [True, False, len(reply.statuses) == 3]


def test_what_follows_a_body_longer_than_it_says_is_not_taken_in(target: Target) -> None:
    """Or what a proxy takes for one request would be two here."""
    body, hidden = target.event(), target.event()
    too_long = request(body, framing=(b"Content-Length: %d" % (len(body) - 1),), close=False)
    reply = target.talk(too_long + request(hidden))
    assert set(reply.statuses) <= {400, 401}
    assert not target.keeps(body)
    assert not target.keeps(hidden)


def test_two_hundred_idle_connections_are_in_nobodys_way(target: Target) -> None:
    idle = [target.connect() for _ in range(200)]
    assert [target.post(target.event()) for _ in range(20)] == [200] * 20
    idle[100].send(request(target.event()))
    assert idle[100].read().statuses == [200]
    for client in idle:
        client.leave()


def test_two_hundred_slow_bodies_are_in_nobodys_way(target: Target) -> None:
    slow = [target.connect() for _ in range(200)]
    for client in slow:
        client.send(request(target.event())[:-1])
    assert [client.read().statuses for client in slow] == [[408]] * 200
    for client in slow:
        client.leave()


def test_slow_clients_do_not_hold_up_a_shutdown(
    install: Install, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = install(Variant("stripe", "background"))
    with (
        sqlite_database(tmp_path_factory.mktemp("hostile")) as database,
        serve(project, database, "httptools") as target,
    ):
        whole = request(target.event())
        upgrade = request(target.event(), *UPGRADE, close=False)
        clients = [target.connect() for _ in range(4)]
        for client, data in zip(clients, (b"", whole[:30], whole[:-1], upgrade), strict=True):
            client.send(data)
        assert target.post(target.event()) == 200
        begun = time.monotonic()
        target.server.end(signal.SIGTERM)
        assert time.monotonic() - begun < BODY_SECONDS + 5
        assert "Traceback" not in target.server.printed, target.server.printed
        for client in clients:
            client.leave()
