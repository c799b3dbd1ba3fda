"""What an event's body, id and type may be."""

import pytest

from app.events import checked_text, parse_json
from app.webhooks.refusals import InvalidEvent


@pytest.mark.parametrize("value", ["evt_1", "Zoë", "a b", "x" * 255, "0", 0, 1042, -1])
def test_an_id_or_type_is_text_or_a_whole_number(value: object) -> None:
    assert checked_text(value, "id") == str(value)


@pytest.mark.parametrize(
    "value",
    [None, "", [], {}, True, False, 1.5, b"evt", "a\0", "a\n", "\x1b[31m", "\ud800", "x" * 256],
)
def test_an_id_or_type_that_is_something_else_is_refused(value: object) -> None:
    with pytest.raises(InvalidEvent):
        checked_text(value, "id")


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        (b'{"a": [1, 2.5, "\\u00eb", null, true]}', {"a": [1, 2.5, "ë", None, True]}),
        (b" \n1\t ", 1),
        (b'{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_json_is_parsed(payload: bytes, data: object) -> None:
    assert parse_json(payload) == data


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"[Infinity]",
        b"9" * 5000,
        b"[" * 200_000,
        b'{"a":' * 200_000,
    ],
)
def test_what_is_not_strict_json_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidEvent):
        parse_json(payload)
