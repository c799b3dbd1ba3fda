"""Bodies that are no events, whoever signed them."""

import json


def body(**fields: object) -> bytes:
    """Return an event with some fields replaced, or taken out by None."""
    event = {"id": "evt_1", "type": "test.happened", "data": {"object": {}}} | fields
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


HALF_A_CHARACTER = body(name="\ud83d")  # escaped, as JSON allows and some senders send it
NOT_JSON = {
    "nothing": b"",
    "not JSON": b"id=evt_1&type=test",
    "cut off": body()[:-1],
    "not UTF-8": body()[:-1] + b', "name": "\xff\xfe"}',
    "not a number": body()[:-1] + b', "n": NaN}',
    "infinite": body()[:-1] + b', "n": -Infinity}',
    "a number too long to be one": body()[:-1] + b', "n": ' + b"9" * 5000 + b"}",
    "nested too deeply": b"[" * 40_000 + b"]" * 40_000,
}
NOT_AN_EVENT = {
    "a list": b"[]",
    "a string": b'"evt_1"',
    "null": b"null",
    "no type": body(type=None),
    "an empty type": body(type=""),
    "a type that is none": body(type={"a": 1}),
    "a type that does not print": body(type="a\nb"),
    "a type too long": body(type="x" * 256),
}
BAD_IDS = {
    "an empty id": body(id=""),
    "an id that is none": body(id=["evt_1"]),
    "a boolean id": body(id=True),
    "an id with NUL": body(id="evt\0"),
    "an id that is no Unicode": body(id="evt_\ud800"),
    "an id too long": body(id="x" * 256),
}
