from __future__ import annotations

import pytest

from warren.api import auth, cors


@pytest.mark.parametrize(
    ("method", "wanted", "allowed"),
    [
        ("GET", b"", True),
        ("GET", b"content-type, X-CSRF-Token", True),
        ("GET", b"coder-session-token", False),
        ("POST", b"", False),
    ],
)
def test_a_browser_may_read_and_no_more(method: str, wanted: bytes, allowed: bool) -> None:
    headers = {b"origin": b"https://a.example", b"access-control-request-method": method.encode()}
    if wanted:
        headers[b"access-control-request-headers"] = wanted
    assert cors.is_preflight("OPTIONS", headers)
    assert not cors.is_preflight("GET", headers)
    assert bool(cors.permission(headers)) == allowed


def test_an_answer_that_speaks_of_origins_is_left_alone() -> None:
    assert cors.added([(b"Access-Control-Allow-Origin", b"https://a.example")]) == []
    assert (b"access-control-allow-origin", b"*") in cors.added([])


def test_only_the_prefixed_session_cookie_counts() -> None:
    given = b"coder_session_token=evil; csrf_token=c; __Host-coder_session_token=good; __Host-other=o"
    headers = auth.without_prefix([(b"cookie", given), (b"accept", b"*/*")])
    assert headers[1] == (b"accept", b"*/*")
    assert dict(headers)[b"cookie"] == b"csrf_token=c; coder_session_token=good; __Host-other=o"
    assert auth.cookies_of(dict(auth.without_prefix([(b"cookie", b"coder_session_token=evil")]))) == {}
