"""Slow and broken clients get an answer or the door, and nobody else notices them."""

import signal
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import Install
from hostile import (
    BODY_SECONDS,
    KEEP_ALIVE_SECONDS,
    MAX_BODY_BYTES,
    Service,
    chunked,
    headers,
    request,
    serve,
    sign,
)
from live import Delivery, post
from project import Variant

Build = Callable[[Delivery], bytes]

CHUNKED = (b"Transfer-Encoding: chunked",)


@pytest.fixture(scope="module", params=["httptools", "h11"])
def running(
    request: pytest.FixtureRequest, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    project = install(Variant("stripe", "background"))
    with serve(project, tmp_path_factory.mktemp("hostile"), request.param) as service:
        assert post(service.server.port, service.sign()) == 200
        yield service


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    """The service, which throughout each test serves another client, and survives."""
    with running.serving_others():
        yield running
    assert post(running.server.port, running.sign()) == 200
    running.check()


def length(value: bytes) -> Build:
    return lambda sent: request(sent, framing=(b"Content-Length: " + value,))


def chunks(raw: bytes) -> Build:
    return lambda sent: request(sent, framing=CHUNKED, body=raw)


UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")

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
    "no length": (lambda sent: request(sent, framing=()), {401}),
    "two lengths": (lambda sent: request(sent, b"Content-Length: 5"), {400}),
    "a list of lengths": (length(b"5, 6"), {400}),
    "a length and chunks": (
        lambda sent: request(sent, *CHUNKED, body=chunked(sent.body.encode(), 9)),
        {400, 200},  # h11 does what RFC 9112 says: the chunks count
    ),
    "an encoding that nobody knows": (
        lambda sent: request(sent, framing=(b"Transfer-Encoding: x",)),
        {400},
    ),
    "chunks within chunks": (
        lambda sent: request(sent, framing=(b"Transfer-Encoding: chunked, chunked",)),
        {400},
    ),
    "a chunk whose size is no number": (chunks(b"zz\r\nabc\r\n0\r\n\r\n"), {400}),
    "a chunk whose size is negative": (chunks(b"-5\r\nabcde\r\n0\r\n\r\n"), {400}),
    "a chunk of a size beyond everything": (chunks(b"f" * 20 + b"\r\nabc"), {400, 408}),
    "a chunk longer than its size": (chunks(b"3\r\nabcde\r\n0\r\n\r\n"), {400}),
    "chunks without an end": (chunks(b"3\r\nabc\r\n"), {408}),
    "a NUL in a header": (lambda sent: request(sent, b"X: a\0b"), {400}),
    "a NUL in a header's name": (lambda sent: request(sent, b"X\0: a"), {400}),
    "a header without a colon": (lambda sent: request(sent, b"X"), {400}),
    "a space before the colon": (lambda sent: request(sent, b"X : a"), {400}),
    "a query that is not ASCII": (
        lambda sent: request(sent, target=b"/webhooks/stripe?\xff"),
        {400},
    ),
    "a path with a NUL": (lambda sent: request(sent, target=b"/webhooks/stripe%00"), {404}),
    "a path that is not UTF-8": (lambda sent: request(sent, target=b"/webhooks/stripe%ff"), {404}),
    "two slashes": (lambda sent: request(sent, target=b"//webhooks/stripe"), {404}),
    "an asterisk for a path": (lambda sent: request(sent, target=b"*"), {404}),
    "a host for a path": (lambda sent: request(sent, target=b"http://test"), {400, 404}),
    "CONNECT": (lambda sent: request(sent, method=b"CONNECT", target=b"test:80"), {400, 404}),
    "TRACE": (lambda sent: request(sent, method=b"TRACE"), {405}),
    "a method that nobody knows": (lambda sent: request(sent, method=b"FETCH"), {400, 405}),
    "a method in small letters": (lambda sent: request(sent, method=b"post"), {400, 405}),
    "HTTP/0.9": (lambda _: b"GET /webhooks/stripe\r\n\r\n", {400, 405}),
    "the preface of HTTP/2": (lambda _: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 404}),
    "TLS": (lambda _: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), {400}),
    "every byte there is": (lambda _: bytes(range(256)), {400}),
    "a WebSocket": (
        lambda sent: request(
            sent,
            *UPGRADE,
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            method=b"GET",
            framing=(),
            body=b"",
        ),
        {405},
    ),
    "a signature of another secret": (
        lambda sent: request(
            Delivery(sent.body, {"Stripe-Signature": sign(sent.body.encode(), "x")})
        ),
        {401},
    ),
    "an upgrade to a WebSocket": (
        lambda sent: request(sent, *UPGRADE),
        {200, 401},  # httptools does not read on, so that the body is lost
    ),
    "an upgrade to HTTP/2": (
        lambda sent: request(sent, b"Connection: Upgrade", b"Upgrade: h2c"),
        {200, 401},
    ),
    "two signatures, the wrong one first": (
        lambda sent: request(
            Delivery(sent.body, {"Stripe-Signature": "t=1,v1=00"}), *headers(sent)
        ),
        {401},
    ),
    "a signature that is not ASCII": (
        lambda sent: request(Delivery(sent.body, {}), b"Stripe-Signature: t=1,v1=\xff\xfe"),
        {401},
    ),
    "a compressed body that is none": (
        lambda sent: request(sent, b"Content-Encoding: gzip", body=b"\x1f\x8b" + bytes(20)),
        {401},
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_request_is_refused_or_else_kept_whole(service: Service, name: str) -> None:
    build, statuses = BROKEN[name]
    sent = service.sign()
    answer = service.talk(build(sent))
    assert answer.closed
    assert answer.statuses
    assert set(answer.statuses) <= statuses
    assert service.keeps(sent) == (answer.statuses == [200])


ODD: dict[str, Build] = {
    "HTTP/1.0": lambda sent: request(sent, version=b"HTTP/1.0", host=(), close=False),
    "Expect: 100-continue": lambda sent: request(sent, b"Expect: 100-continue"),
    "another expectation": lambda sent: request(sent, b"Expect: the-unexpected"),
    "an escaped path": lambda sent: request(sent, target=b"/webhooks/%73tripe"),
    "a query": lambda sent: request(sent, target=b"/webhooks/stripe?%ff=%00&a"),
    "a host with a slash": lambda sent: request(sent, host=(b"Host: test/path",)),
    "a host with a bracket": lambda sent: request(sent, host=(b"Host: [",)),
    "a host that is not ASCII": lambda sent: request(sent, host=(b"Host: \xff\xfe",)),
    "header names in capitals": lambda sent: request(sent).replace(
        b"Stripe-Signature", b"STRIPE-SIGNATURE"
    ),
    "a type that is not JSON": lambda sent: request(sent, b"Content-Type: application/x\xff"),
    "an upgrade by the header alone": lambda sent: request(sent, b"Upgrade: h2c"),
    "a header of 60 KB": lambda sent: request(sent, b"X: " + b"a" * 60_000),
    "a thousand headers": lambda sent: request(sent, *(b"X-%d: a" % n for n in range(1000))),
    "chunks of one byte": lambda sent: request(
        sent, framing=CHUNKED, body=chunked(sent.body.encode(), 1)
    ),
    "chunks with extensions and a trailer": lambda sent: request(
        sent, framing=CHUNKED, body=chunked(sent.body.encode(), 7, b";a=b", b"X-Trailer: a\r\n")
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_but_right_request_is_acknowledged_and_kept(service: Service, name: str) -> None:
    sent = service.sign()
    answer = service.talk(ODD[name](sent))
    assert (answer.statuses, answer.closed) == ([200], True)
    assert service.keeps(sent)


def test_the_target_may_be_a_whole_url_where_the_parser_knows_them(service: Service) -> None:
    sent = service.sign()
    answer = service.talk(request(sent, target=b"http://test/webhooks/stripe"))
    assert answer.statuses == [{"httptools": 200, "h11": 404}[service.http]]
    assert service.keeps(sent) == (answer.statuses == [200])


@pytest.mark.parametrize("framing", [(), CHUNKED])
def test_a_body_that_trickles_in_is_refused_in_time(
    service: Service, framing: tuple[bytes, ...]
) -> None:
    sent = service.sign()
    body = sent.body.encode()
    body = chunked(body, 1) if framing else body
    whole = request(sent, framing=framing or None, body=body)
    client, begun = service.connect(), time.monotonic()
    client.send(whole[: -len(body)])
    for at in range(len(body)):
        if not client.send(body[at : at + 1]) or client.read(0.1).closed:
            break
    assert BODY_SECONDS * 0.9 < time.monotonic() - begun < BODY_SECONDS + 3
    assert not service.keeps(sent)
    client.leave()


def test_a_sender_of_a_body_that_does_not_come_is_told_so(service: Service) -> None:
    sent = service.sign()
    answer = service.talk(request(sent)[:-1])
    assert (answer.statuses, answer.closed) == ([408], True)
    assert not service.keeps(sent)


def test_who_takes_long_over_the_headers_holds_a_connection_and_no_more(service: Service) -> None:
    """The README says so: a proxy is to bound it, uvicorn has no setting that does."""
    sent = service.sign()
    whole = request(sent)
    client = service.connect()
    for at in range(30):
        assert client.send(whole[at : at + 1])
        assert client.read(0.1) == client.read(0.001)  # nothing came, and nothing was closed
    assert client.send(whole[30:])
    assert client.read().statuses == [200]
    client.leave()


def test_a_connection_that_says_nothing_more_is_closed(service: Service) -> None:
    begun = time.monotonic()
    answer = service.talk(request(service.sign(), close=False))
    assert (answer.statuses, answer.closed) == ([200], True)
    assert time.monotonic() - begun < KEEP_ALIVE_SECONDS + 3


@pytest.mark.parametrize("rudely", [False, True])
def test_a_client_that_leaves_mid_body_leaves_nothing(service: Service, rudely: bool) -> None:
    sent = [service.sign() for _ in range(20)]
    for each in sent:
        client = service.connect()
        client.send(request(each)[:-5])
        client.leave(rudely=rudely)
    time.sleep(0.2)
    assert not any(map(service.keeps, sent))


def test_who_does_not_wait_for_the_answer_may_send_again(service: Service) -> None:
    sent = [service.sign() for _ in range(20)]
    for each in sent:
        client = service.connect()
        client.send(request(each))
        client.leave(rudely=True)
    assert [post(service.server.port, each) for each in sent] == [200] * 20
    assert all(map(service.keeps, sent))


def test_a_body_may_have_exactly_the_limit(service: Service) -> None:
    empty = len(service.sign(padding="").body)
    for more, status in ((0, 200), (1, 413)):
        sent = service.sign(padding="x" * (MAX_BODY_BYTES - empty + more))
        body = sent.body.encode()
        assert service.talk(request(sent)).statuses == [status]
        assert service.keeps(sent) == (status == 200)
        if status == 413:
            answer = service.talk(request(sent, framing=CHUNKED, body=chunked(body, 50_000)))
            assert answer.statuses == [413]
            assert not service.keeps(sent)


def test_an_endless_body_is_cut_off(service: Service) -> None:
    client = service.connect()
    client.send(request(service.sign(), framing=CHUNKED, body=b""))
    chunk, sent = chunked(b"x" * 100_000, 100_000).removesuffix(b"0\r\n\r\n"), 0
    while client.send(chunk):
        sent += 1
        assert sent < 500
    client.leave()


def test_headers_without_end_are_cut_off_where_the_parser_has_a_limit(service: Service) -> None:
    """The README says which one has."""
    for many in (b"X: " + b"a" * 1_000_000, b"\r\n".join([b"X: a"] * 100_000)):
        answer = service.talk(request(service.sign(), many))
        assert answer.closed
        assert answer.statuses in ([[200]] if service.http == "httptools" else [[400], []])


def test_requests_in_one_packet_are_all_answered_and_kept(service: Service) -> None:
    sent = [service.sign() for _ in range(5)]
    data = b"".join(request(each, close=False) for each in [*sent, *sent])
    assert service.talk(data).statuses == [200] * 10
    assert all(map(service.keeps, sent))


def test_what_follows_a_refused_request_in_its_packet_is_not_taken_in(service: Service) -> None:
    first, wrong, last = (service.sign() for _ in range(3))
    unsigned = Delivery(wrong.body, {"Stripe-Signature": sign(b"another body")})
    data = b"".join(request(each, close=False) for each in (first, unsigned, last))
    answer = service.talk(data)
    assert (answer.statuses, answer.closed) == ([200, 401], True)
    assert [service.keeps(each) for each in (first, wrong, last)] == [True, False, False]


def test_what_follows_a_body_longer_than_it_says_is_not_taken_in(service: Service) -> None:
    """Or else what a proxy takes for one request would be two here."""
    sent, hidden = service.sign(), service.sign()
    body = sent.body.encode() + request(hidden)
    answer = service.talk(request(sent, body=body, close=False))
    assert (answer.statuses, answer.closed) == ([401], True)
    assert not service.keeps(sent)
    assert not service.keeps(hidden)


def test_two_hundred_idle_connections_are_in_nobody_s_way(service: Service) -> None:
    idle = [service.connect() for _ in range(200)]
    sent = [service.sign() for _ in range(20)]
    assert [post(service.server.port, each) for each in sent] == [200] * 20
    late = service.sign()
    idle[100].send(request(late))
    assert idle[100].read().statuses == [200]
    for client in idle:
        client.leave()


def test_two_hundred_slow_bodies_are_in_nobody_s_way(service: Service) -> None:
    slow = [service.connect() for _ in range(200)]
    for client in slow:
        client.send(request(service.sign())[:-1])
    assert [client.read().statuses for client in slow] == [[408]] * 200
    for client in slow:
        client.leave()


def test_slow_clients_do_not_hold_up_a_shutdown(
    install: Install, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = install(Variant("stripe", "background"))
    with serve(project, tmp_path_factory.mktemp("hostile"), "httptools") as service:
        whole = request(service.sign())
        upgrade = request(service.sign(), *UPGRADE, close=False)
        clients = [service.connect() for _ in range(4)]
        for client, data in zip(clients, (b"", whole[:30], whole[:-1], upgrade), strict=True):
            client.send(data)
        assert post(service.server.port, service.sign()) == 200
        begun = time.monotonic()
        service.server.end(signal.SIGTERM)
        assert time.monotonic() - begun < BODY_SECONDS + 5
        assert "Traceback" not in service.server.printed, service.server.printed
        for client in clients:
            client.leave()
