from __future__ import annotations

import msgspec
import pytest

from warren.api import csrf
from warren.api.json import encode
from warren.api.rate_limit import Counter, Limits

PATH = "/api/v2/users/me"


def test_a_masked_token_proves_its_cookie_and_no_other() -> None:
    cookie = csrf.new_cookie()
    first, second = csrf.masked(cookie), csrf.masked(cookie)
    assert first != second
    assert csrf.proves(first, cookie)
    assert csrf.proves(second, cookie)
    assert not csrf.proves(first, csrf.new_cookie())
    for nonsense in ("", "nonsense", cookie, first[:-4]):
        assert not csrf.proves(nonsense, cookie)
    assert not csrf.proves(first, "nonsense")


@pytest.mark.parametrize(
    ("method", "path", "headers", "query", "cookie", "needed"),
    [
        ("POST", PATH, {}, "", "token", True),
        ("GET", PATH, {}, "", "token", False),
        ("POST", PATH, {}, "", None, False),
        ("POST", PATH, {b"coder-session-token": b"token"}, "", "token", False),
        ("POST", PATH, {b"coder-session-token": b"another"}, "", "token", True),
        ("POST", PATH, {}, "token", "token", False),
        ("POST", PATH, {b"authorization": b"Bearer x"}, "", "token", False),
        ("POST", PATH, {b"coder-provisioner-daemon-psk": b"x"}, "", "token", False),
        ("POST", "/api/v2/users/first", {}, "", "token", False),
        ("POST", "/api/v2/users/firsts", {}, "", "token", True),
        ("POST", "/api/v2/workspaceagents/me/logs", {}, "", "token", False),
        ("POST", "/elsewhere", {}, "", "token", False),
    ],
)
def test_only_what_another_site_could_send_needs_proof(
    method: str, path: str, headers: dict[bytes, bytes], query: str, cookie: str | None, needed: bool
) -> None:
    assert csrf.needs_proof(method, path, headers, query, cookie) is needed


def test_a_caller_has_its_share_of_each_path_and_gets_it_back() -> None:
    counter = Counter(Limits(api=3))

    def ask(now: float, caller: str = "a", path: str = PATH) -> bool:
        verdict = counter.count(caller, "GET", path, now)
        assert verdict is not None
        return verdict.allowed

    assert [ask(1) for _ in range(4)] == [True, True, True, False]
    assert ask(2, caller="b")
    assert ask(2, path="/api/v2/other")
    assert not ask(61)  # most of the last minute still counts
    assert ask(125)


def test_limits_by_path() -> None:
    limits = Limits()
    assert limits.of("POST", "/api/v2/users/login") == 60
    assert limits.of("PUT", "/api/v2/users/me/password") == 60
    assert limits.of("POST", "/api/v2/files") == 12
    assert limits.of("GET", PATH) == 512
    assert limits.of("GET", "/healthz") == 0
    assert Counter(Limits(api=-1)).count("a", "GET", PATH, 0) is None


def test_json_is_safe_inside_of_html_and_ends_the_line() -> None:
    text = "<script>&\u2028\u2029</script>"
    data = encode({"a": text})
    assert data == b'{"a":"\\u003cscript\\u003e\\u0026\\u2028\\u2029\\u003c/script\\u003e"}\n'
    assert msgspec.json.decode(data) == {"a": text}
