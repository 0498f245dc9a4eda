"""Which proxy leads to a server, and what is said to it."""

import pytest

from warren.errors import Invalid, RemoteProtocolError, Unavailable
from warren.sdk.proxies import Proxies, Proxy

BOTH = Proxies(https="http://one:3128", http="two")


def test_the_scheme_chooses_the_proxy() -> None:
    assert BOTH.find("example.com", 443, secure=True) == Proxy("one", 3128)
    assert BOTH.find("example.com", 80, secure=False) == Proxy("two", 80)
    assert Proxies().find("example.com", 443, secure=True) is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1", "[::1]", "LOCALHOST."])
def test_this_machine_is_never_reached_through_a_proxy(host: str) -> None:
    assert BOTH.find(host, 443, secure=True) is None


@pytest.mark.parametrize(
    ("no", "host", "excepted"),
    [
        ("example.com", "example.com", True),
        ("other, example.com", "a.Example.com.", True),
        ("example.com", "anexample.com", False),
        (".example.com", "a.example.com", True),
        (".example.com", "example.com", False),
        ("*.example.com", "a.example.com", True),
        ("*", "anything", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("fd00::/8", "[fd12::1]", True),
        ("fd00::/8", "10.0.0.1", False),
        ("fd12::1", "fd12::1", True),
        ("relay:443", "relay", True),
        ("relay:8443", "relay", False),
        ("10.0.0.1:80", "10.0.0.1", False),
        ("10.0.0.1:443", "10.0.0.1", True),
        ("[fd12::1]:443", "fd12::1", True),
    ],
)
def test_exceptions(no: str, host: str, *, excepted: bool) -> None:
    found = Proxies(https="http://one:3128", no=no).find(host, 443, secure=True)
    assert (found is None) == excepted


def test_the_environment_is_read_in_both_spellings_and_capitals_win() -> None:
    found = Proxies.from_environment({"https_proxy": "a", "HTTPS_PROXY": "b", "no_proxy": "c", "HTTP_PROXY": ""})
    assert found == Proxies(https="b", no="c")
    assert found.as_mapping() == {"https": "b", "http": "", "no": "c"}


def test_the_request_carries_the_password() -> None:
    proxy = Proxies(https="http://me:p%40ss@proxy:8080/").find("example.com", 8443, secure=True)
    assert proxy is not None
    assert proxy.connect_request("example.com", 8443) == (
        b"CONNECT example.com:8443 HTTP/1.1\r\nHost: example.com:8443\r\n"
        b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n\r\n"
    )
    assert proxy.connect_request("::2", 1).startswith(b"CONNECT [::2]:1 HTTP/1.1\r\n")


@pytest.mark.parametrize("url", ["socks5://me:secret@host:1", "https://me:secret@host", "http://host:x", "http://"])
def test_a_proxy_that_cannot_be_used_is_an_error_for_who_needs_it(url: str) -> None:
    proxies = Proxies(https=url, no="near")
    assert proxies.find("near", 443, secure=True) is None
    with pytest.raises(Invalid, match="cannot be used") as error:
        proxies.find("far", 443, secure=True)
    assert "secret" not in str(error.value)


def test_answers_are_judged() -> None:
    proxy = Proxy("proxy", 3128)
    proxy.check_answer(b"HTTP/1.1 200 Connection established\r\nVia: x")
    with pytest.raises(Unavailable, match="name or password"):
        proxy.check_answer(b"HTTP/1.1 407 Proxy Authentication Required")
    with pytest.raises(Unavailable, match="403 Forbidden"):
        proxy.check_answer(b"HTTP/1.0 403 Forbidden")
    with pytest.raises(RemoteProtocolError, match="no HTTP proxy"):
        proxy.check_answer(b"SSH-2.0-x")
