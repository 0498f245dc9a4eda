"""Which proxy leads to a server."""

import json
from pathlib import Path
from typing import Any

import pytest

from warren.errors import Invalid
from warren.sdk import proxy_exceptions
from warren.sdk.proxies import Login, Proxies, Proxy, Scheme, parse

BOTH = Proxies(https="http://one:3128", http="two")
VECTORS = Path(__file__).parents[2] / "vectors"
TABLE = json.loads((VECTORS / "no_proxy.json").read_text())
URLS = json.loads((VECTORS / "proxy_urls.json").read_text())
CASES = [tuple(case.values()) for part in ("as_go", "more_lenient") for case in TABLE[part]]


def test_the_scheme_chooses_the_proxy() -> None:
    assert BOTH.find("example.com", 443, secure=True) == Proxy("one", 3128)
    assert BOTH.find("example.com", 80, secure=False) == Proxy("two", 80)
    assert Proxies().find("example.com", 443, secure=True) is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1", "[::1]", "LOCALHOST."])
def test_this_machine_is_never_reached_through_a_proxy(host: str) -> None:
    assert BOTH.find(host, 443, secure=True) is None


@pytest.mark.parametrize(("no", "host", "port", "covered"), CASES)
def test_exceptions_are_those_that_go_knows(no: str, host: str, port: int, *, covered: bool) -> None:
    assert proxy_exceptions.cover(no, host, port) == covered


def test_the_environment_is_read_in_both_spellings_and_capitals_win() -> None:
    found = Proxies.from_environment({"https_proxy": "a", "HTTPS_PROXY": "b", "no_proxy": "c", "HTTP_PROXY": ""})
    assert found == Proxies(https="b", no="c")
    assert found.as_mapping() == {"https": "b", "http": "", "no": "c"}


def test_one_for_all_counts_where_there_is_no_closer_one() -> None:
    found = Proxies.from_environment({"ALL_PROXY": "socks5://all", "https_proxy": "one"})
    assert found == Proxies(https="one", http="socks5://all")
    assert Proxies.from_environment({"all_proxy": "x"}) == Proxies(https="x", http="x")


@pytest.mark.parametrize("case", URLS["usable"], ids=lambda case: case["url"])
def test_urls_are_read_as_the_engine_reads_them(case: dict[str, Any]) -> None:
    login = None if case["name"] is None else Login(case["name"].encode(), case["password"].encode())
    assert parse(case["url"]) == Proxy(case["host"], case["port"], Scheme(case["scheme"]), login)
    assert parse(parse(case["url"]).url) == parse(case["url"])


@pytest.mark.parametrize("url", URLS["unusable"])
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(Invalid, match="cannot be used"):
        parse(url)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://host", "host:80"),
        ("socks5h://host", "socks5://host:1080"),
        ("https://[fd00::1]:8443/x", "https://[fd00::1]:8443"),
    ],
)
def test_people_see_the_scheme_unless_it_is_the_usual_one(url: str, name: str) -> None:
    assert parse(url).name == name


def test_no_password_is_shown() -> None:
    assert "secret" not in repr(parse("http://me:secret@host"))


@pytest.mark.parametrize(
    "url",
    [
        "socks4://me:secret@host:1",
        "http://me:secret@host:x",
        "http://me:secret@",
        "http://me:secret/x@host",
        "socks5://:secret@host",
    ],
)
def test_a_proxy_that_cannot_be_used_is_an_error_for_who_needs_it(url: str) -> None:
    proxies = Proxies(https=url, no="near")
    assert proxies.find("near", 443, secure=True) is None
    with pytest.raises(Invalid, match="cannot be used") as error:
        proxies.find("far", 443, secure=True)
    assert "secret" not in str(error.value)
