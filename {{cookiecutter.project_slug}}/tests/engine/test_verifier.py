"""What verifiers have in common beside the signature."""

from starlette.datastructures import Headers

from app.webhooks.verifier import keep_headers


def test_only_named_headers_are_kept_and_under_the_verifier_s_names() -> None:
    sent = Headers({"x-shop": "a", "authorization": "Bearer b", "cookie": "c=d", "x-other": "e"})

    assert keep_headers(sent, ["X-Shop", "X-Absent"]) == {"X-Shop": "a"}


def test_a_header_is_kept_up_to_255_characters() -> None:
    sent = Headers({"X-Shop": "x" * 1000})

    assert keep_headers(sent, ["X-Shop"]) == {"X-Shop": "x" * 255}
