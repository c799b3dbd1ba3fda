"""Requests grown from valid ones, by small changes to body, headers and signature."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st
from senders import CURRENT, PREVIOUS, TOLERANCE, Header, Sender

MAX_BODY_BYTES = 50_000


@dataclass(frozen=True)
class Attempt:
    """A request that may be authentic, and may be an event."""

    headers: list[Header]
    body: bytes

    @property
    def raw(self) -> bytes:
        """All of it but the first line."""
        lines = [name + b": " + value for name, value in self.headers]
        lines.append(b"Content-Length: %d" % len(self.body))
        # What would end a line is left out, or else it would be another request.
        lines = [line.replace(b"\r", b"").replace(b"\n", b"") for line in lines]
        return b"\r\n".join([b"Host: test", b"Connection: close", *lines, b"", self.body])


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


# JSON as text: what has no equal in Python is of interest too.
texts = st.text(max_size=20).map(json.dumps)
raw_texts = st.text(max_size=20).map(lambda text: json.dumps(text, ensure_ascii=False))
lengths = st.integers(250, 260).map(lambda length: json.dumps("x" * length))
numbers = st.integers().map(str) | st.floats(allow_nan=False, allow_infinity=False).map(json.dumps)
odd_values = st.sampled_from(
    [
        *("NaN", "Infinity", "-Infinity", "1e999", "-0", "1e-400", "01", "0x1", "1_000", "٣"),
        *("9" * 300, "-" + "9" * 4000, "9" * 4299, "9" * 4301, "9" * 10_000, "0." + "1" * 5000),
        *(deep(10), deep(900), deep(5000), deep(20_000), '{"a":' * 2000 + "1" + "}" * 2000),
        *('"\\ud800"', '"\\udc00\\ud800"', '"\ud800"', '"\\u0000"', '"a\0b"', '"\x1b[31m"'),
        *("'a'", '"', "", "undefined", "null", "true", "[]", "{}", '"\ufeff"', '"\\/"', '"\\x"'),
    ]
)
values = st.one_of(texts, raw_texts, lengths, numbers, odd_values)

unique = st.uuids().map(lambda id: f'"evt_{id.hex}"')
ids = st.one_of(*[unique] * 12, st.integers(0, 10**9).map(str), values)
named = st.sampled_from(["invoice.paid", "order.paid", "test.happened"]).map(json.dumps)
types = st.one_of(*[named] * 12, values)
fields = st.tuples(st.sampled_from(["id", "type", "data", "object", "a", "ID", ""]), values)
marks = st.sampled_from([(":", ",")] * 6 + [(": ", ", "), (" :\t", " ,\r\n"), ("=", ";")])
encodings = st.sampled_from(
    ["utf-8"] * 15 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"]
)


@st.composite
def events(draw: st.DrawFn) -> str:
    """Return an event as text, or something like it."""
    pairs = [("id", draw(ids)), ("type", draw(types)), ("data", '{"object": {}}')]
    match draw(st.integers(0, 9)):
        case 7:
            pairs.pop(draw(st.integers(0, 2)))
        case 8:
            pairs += draw(st.lists(fields, max_size=3))
        case 9:
            pairs = draw(st.permutations(pairs + draw(st.lists(fields, max_size=3))))
    colon, comma = draw(marks)
    return "{" + comma.join(json.dumps(key) + colon + value for key, value in pairs) + "}"


def flip(draw: st.DrawFn, data: bytes) -> bytes:
    if not data:
        return b"\0"
    at, bit = draw(st.integers(0, len(data) - 1)), draw(st.integers(0, 7))
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def cut(draw: st.DrawFn, data: bytes) -> bytes:
    return data[: draw(st.integers(0, len(data)))]


def insert(draw: st.DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, len(data)))
    odd = [b"\0", b" ", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\x80", "٣".encode(), b"="]
    return data[:at] + draw(st.sampled_from(odd)) + data[at:]


def surround(draw: st.DrawFn, data: bytes) -> bytes:
    around = [b" ", b"\n", b"\t\r\n", b"\0", b"\xef\xbb\xbf", b"//", b'"', b"\x0b"]
    return draw(st.sampled_from(around)) + data + draw(st.sampled_from([b"", *around]))


def repeat(draw: st.DrawFn, data: bytes) -> bytes:
    return data[:1000] * draw(st.sampled_from([0, 2, 3, 1000]))  # what is repeated may be so again


def parts_changed(draw: st.DrawFn, value: bytes) -> bytes:
    """Drop, repeat, reorder, add or rename what stands between commas."""
    parts = value.split(b",")
    match draw(st.integers(0, 6)):
        case 0:
            parts.pop(draw(st.integers(0, len(parts) - 1)))
        case 1:
            parts = draw(st.permutations(parts * 2))
        case 2:
            parts = [b"t=1", *parts, b"t=99999999999"]
        case 3:
            parts = [*parts, *[b"v1=" + b"0" * 64] * draw(st.sampled_from([1, 100, 1000]))]
        case 4:
            odd = [b"", b"=", b"t", b"v1", b"t=", b"v1=", b"t=t"]
            parts = [*parts, draw(st.sampled_from(odd))]
        case 5:
            version = draw(st.sampled_from([b"v0", b"V1", b""]))
            parts = [part.replace(b"v1", version) for part in parts]
        case 6:
            mark = draw(st.sampled_from([b"==", b" = ", b":"]))
            parts = [part.replace(b"=", mark) for part in parts]
    return draw(st.sampled_from([b",", b",", b", ", b";", b" "])).join(parts)


def rewritten(draw: st.DrawFn, value: bytes) -> bytes:
    """Write the same in another way."""
    wide = value.decode("latin-1").translate({48 + n: 0xFF10 + n for n in range(10)}).encode()
    raised = value.replace(b"1", b"\xb9").replace(b"2", b"\xb2").replace(b"3", b"\xb3")
    others = [value.upper(), value.title(), b" " + value + b"\t", wide, raised, b'"' + value + b'"']
    return draw(st.sampled_from(others))


def retimed(draw: st.DrawFn, value: bytes) -> bytes:
    """Replace the time, if there is one."""
    digits = value.removeprefix(b"t=").partition(b",")[0]
    odd = [b"", b"0", b"-1", b"+1", b"1e9", b"0x1", b"1_0", b"9" * 30, b"9" * 5000, b"NaN", b"1.0"]
    odd += [b"-" + digits, b"+" + digits, b"0" + digits, digits + b".0", digits + b" "]
    return value.replace(digits, draw(st.sampled_from(odd)), 1) if digits else value


def replaced(draw: st.DrawFn, _: bytes) -> bytes:
    return draw(st.binary(max_size=80))


Change = Callable[[st.DrawFn, bytes], bytes]
BODY_CHANGES: list[Change] = [flip, cut, insert, surround, repeat]
HEADER_CHANGES: list[Change] = [flip, cut, insert, surround, rewritten, retimed, replaced]
HEADER_CHANGES += [parts_changed] * 3


def changed(draw: st.DrawFn, data: bytes, changes: list[Change]) -> bytes:
    for change in draw(st.lists(st.sampled_from(changes), min_size=1, max_size=2)):
        data = change(draw, data)
    return data


@st.composite
def attempts(draw: st.DrawFn, sender: Sender, now: int) -> Attempt:
    """Return a request grown from a valid one: a change before it is signed, or after, or both."""
    body = draw(events()).encode(draw(encodings), "surrogatepass")
    if draw(st.integers(0, 7)) == 7:
        body = changed(draw, body, BODY_CHANGES)
    secret = draw(st.sampled_from([CURRENT] * 8 + [PREVIOUS] * 2 + ["", "other"]))
    near, far = [-TOLERANCE // 2, TOLERANCE // 2], [-TOLERANCE * 2, TOLERANCE * 2, 10**12]
    away = draw(st.sampled_from([0] * 12 + near + far + [-now, -(10**10)]))
    headers = sender.sign(body, secret, b"%d" % (now + away))
    match draw(st.integers(0, 9)):
        case 5:
            headers = [(name.upper(), value) for name, value in headers]
        case 6:
            headers = draw(st.permutations(headers * 2))[: draw(st.integers(0, 3))]
        case 7:
            body = changed(draw, body, BODY_CHANGES)
        case 8 | 9 if headers:
            at = draw(st.integers(0, len(headers) - 1))
            name, value = headers[at]
            headers[at] = (name, changed(draw, value, HEADER_CHANGES))
    if draw(st.integers(0, 9)) == 9:
        headers.append((b"Content-Type", draw(st.binary(max_size=20))))
    return Attempt(headers, body)
