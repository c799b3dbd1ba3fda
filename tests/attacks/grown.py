"""Requests grown from valid ones, by small changes to body, headers and signature."""

import json
from collections.abc import Callable

from hypothesis import strategies as st

from attacks.senders import CURRENT, PREVIOUS, TOLERANCE, Header, Scheme

# JSON as text: what has no equal in Python is of interest, too.
TEXTS = st.text(max_size=20).map(json.dumps)
RAW_TEXTS = st.text(max_size=20).map(lambda text: json.dumps(text, ensure_ascii=False))
NUMBERS = st.integers().map(str) | st.floats(allow_nan=False, allow_infinity=False).map(json.dumps)
ODD = st.sampled_from(
    [
        *("NaN", "-Infinity", "1e999", "-0", "01", "0x1", "1_000", "٣", "9" * 4299, "9" * 4301),
        *('"\\ud800"', '"\ud800"', '"\\u0000"', '"a\0b"', '"\x1b[31m"', '"\ufeff"', '"\\x"'),
        *("'a'", '"', "", "null", "true", "[]", "{}", "[" * 900 + "]" * 900, "[" * 20_000),
    ]
)
VALUES = st.one_of(TEXTS, RAW_TEXTS, NUMBERS, ODD)

NEW_IDS = st.uuids().map(lambda each: f'"evt_{each.hex}"')
IDS = st.one_of(*[NEW_IDS] * 12, st.integers(0, 10**9).map(str), VALUES)
TYPES = st.one_of(*[st.just('"test.happened"')] * 12, VALUES)
FIELDS = st.tuples(st.sampled_from(["id", "type", "data", "object", "ID", ""]), VALUES)
ENCODINGS = st.sampled_from(["utf-8"] * 15 + ["utf-8-sig", "utf-16", "utf-32-le"])

Change = Callable[[st.DrawFn, bytes], bytes]


@st.composite
def events(draw: st.DrawFn) -> str:
    """Return an event as text, or something like it."""
    pairs = [("id", draw(IDS)), ("type", draw(TYPES)), ("data", '{"object": {}}')]
    match draw(st.integers(0, 9)):
        case 8:
            pairs.pop(draw(st.integers(0, 2)))
        case 9:
            pairs = draw(st.permutations(pairs + draw(st.lists(FIELDS, max_size=3))))
    return "{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in pairs) + "}"


def flip(draw: st.DrawFn, data: bytes) -> bytes:
    """Turn one bit over."""
    if not data:
        return b"\0"
    at, bit = draw(st.integers(0, len(data) - 1)), draw(st.integers(0, 7))
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def cut(draw: st.DrawFn, data: bytes) -> bytes:
    return data[: draw(st.integers(0, len(data)))]


def insert(draw: st.DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, len(data)))
    odd = [b"\0", b" ", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", "٣".encode(), b"=", b",", b'"']
    return data[:at] + draw(st.sampled_from(odd)) + data[at:]


def repeat(draw: st.DrawFn, data: bytes) -> bytes:
    mark = draw(st.sampled_from([b"", b",", b", ", b" ", b";"]))
    return mark.join([data[:1000]] * draw(st.sampled_from([0, 2, 3, 12, 50])))


def rewrite(draw: st.DrawFn, data: bytes) -> bytes:
    """Write the same in another way, or almost."""
    wide = data.decode("latin-1").translate({48 + n: 0xFF10 + n for n in range(10)}).encode()
    raised = data.replace(b"1", b"\xb9").replace(b"2", b"\xb2")
    spaced = data.replace(b"=", b" = ").replace(b",", b" , ")
    others = [data.upper(), b" " + data + b"\t", wide, raised, spaced, data.replace(b"v1", b"v0")]
    return draw(st.sampled_from(others))


def retime(draw: st.DrawFn, data: bytes) -> bytes:
    """Replace the time, if there is one."""
    digits = data.removeprefix(b"t=").partition(b",")[0]
    odd = [b"", b"0", b"-1", b"1e9", b"0x1", b"1_0", b"9" * 30, b"9" * 5000, b"NaN", b"+" + digits]
    return data.replace(digits, draw(st.sampled_from(odd)), 1) if digits else data


def changed(draw: st.DrawFn, data: bytes, changes: list[Change]) -> bytes:
    for change in draw(st.lists(st.sampled_from(changes), min_size=1, max_size=2)):
        data = change(draw, data)
    return data


BODY_CHANGES: list[Change] = [flip, cut, insert, repeat]
HEADER_CHANGES: list[Change] = [flip, cut, insert, repeat, rewrite, retime]


@st.composite
def requests(draw: st.DrawFn, scheme: Scheme, now: int) -> tuple[list[Header], bytes]:
    """Return headers and body grown from a valid request: changed before it is signed, or after."""
    body = scheme.complete(draw(events()).encode(draw(ENCODINGS), "surrogatepass"))
    if draw(st.integers(0, 7)) == 7:
        body = changed(draw, body, BODY_CHANGES)
    secret = draw(st.sampled_from([CURRENT] * 8 + [PREVIOUS] * 2 + ["", "other"]))
    away = draw(st.sampled_from([0] * 12 + [TOLERANCE // 2, -TOLERANCE * 2, TOLERANCE * 2, -now]))
    headers = scheme.sign(body, secret, b"%d" % (now + away))
    match draw(st.integers(0, 9)):
        case 6:
            headers = draw(st.permutations(headers * 2))[: draw(st.integers(0, 3))]
        case 7:
            body = changed(draw, body, BODY_CHANGES)
        case 8 | 9 if headers:
            at = draw(st.integers(0, len(headers) - 1))
            name, value = headers[at]
            headers[at] = (name, changed(draw, value, HEADER_CHANGES))
    return headers, body
