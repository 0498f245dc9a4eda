"""What is said to a proxy, and what is made of its answers."""

from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.errors import Invalid, RemoteProtocolError, Unavailable, WarrenError
from warren.sdk import proxy_handshakes
from warren.sdk.proxies import parse

TO_NAME = b"\x05\x01\x00\x03\x0brelay.local\x01\xbb"
REPLY = bytes([5, 0, 0, 1, 10, 0, 0, 1, 0, 80])


def talk(url: str, host: str, *answers: bytes) -> list[bytes]:
    """Talk with a proxy that says these things, byte by byte; return what was said to it, once the way is open."""
    handshake = proxy_handshakes.begin(parse(url), host, 443)
    said: list[bytes] = []
    is_open = False
    for answer in answers:
        said.append(handshake.take_output())
        assert not handshake.take_output()
        for byte in answer:
            assert not is_open, "it reads what is not the proxy's"
            assert handshake.wanted > 0
            is_open = handshake.feed(bytes([byte]))
    assert is_open
    return said


def test_connect_carries_the_password() -> None:
    said = talk("http://me:p%40ss@proxy:8080/", "example.com", b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
    assert said == [
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n\r\n"
    ]
    (request,) = talk("https://proxy", "[::2]", b"HTTP/1.0 200 OK\r\n\r\n")
    assert request.startswith(b"CONNECT [::2]:443 HTTP/1.1\r\n")


def test_socks_without_a_login() -> None:
    assert talk("socks5://proxy", "relay.local", b"\5\0", REPLY) == [b"\5\1\0", TO_NAME]
    assert talk("socks5h://me:x@proxy", "relay.local", b"\5\0", REPLY) == [b"\5\2\0\2", TO_NAME]


def test_socks_with_a_login_and_addresses() -> None:
    named = bytes([5, 0, 0, 3, 2]) + b"hi\0\0"
    said = talk("socks5://me:p%40ss@proxy", "10.0.0.1", b"\5\2", b"\1\0", named)
    assert said == [b"\5\2\0\2", b"\1\2me\4p@ss", b"\5\1\0\1\x0a\0\0\1\1\xbb"]
    assert talk("socks5://proxy", "fd00::1", b"\5\0", bytes([5, 0, 0, 4, *bytes(18)]))[1][3:5] == b"\4\xfd"


@pytest.mark.parametrize(
    ("url", "answers", "error", "said"),
    [
        ("http://p", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"], Unavailable, "name or password"),
        (
            "http://p",
            [b"HTTP/1.1 407 No\r\nproxy-authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n"],
            Unavailable,
            "wants a login by Negotiate or NTLM, and only Basic",
        ),
        (
            "http://p",
            [b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: basic realm=x\r\n\r\n"],
            Unavailable,
            "another name or password",
        ),
        ("https://p", [b"HTTP/1.0 403 Forbidden\r\n\r\n"], Unavailable, r"https://p:443 did not .* \(403 Forbidden"),
        ("http://p", [b"HTTP/1.1 500 \x1b]0;x" + b"y" * 999 + b"\r\n\r\n"], Unavailable, r"\(500 ]0;xy{180,200}\)$"),
        ("http://p", [b"SSH-2.0-x\r\n"], RemoteProtocolError, "p:80 is no HTTP proxy"),
        ("http://p", [b"\x05HTTP/1.1 200 OK\r\n\r\n"], RemoteProtocolError, "p:80 is no HTTP proxy"),
        ("http://p", [b"\x15\x03\x01"], RemoteProtocolError, "write https://"),
        ("http://p", [b"H" * proxy_handshakes.MAX_ANSWER_BYTES], Unavailable, "without end"),
        ("socks5://p", [b"\5\xff"], Unavailable, "wants a name and a password"),
        ("socks5://me:x@p", [b"\5\xff"], Unavailable, "takes no name and password"),
        ("socks5://me:x@p", [b"\5\2", b"\1\1"], Unavailable, "refuses the name or the password"),
        ("socks5://p", [b"\5\0", b"\5\2\0\1"], Unavailable, "SOCKS reply 2: its rules forbid it"),
        ("socks5://p", [b"\5\0", b"\5\5\0\1"], Unavailable, "SOCKS reply 5: connection refused"),
        ("socks5://p", [b"\5\0", b"\5\x63\0\1"], Unavailable, "SOCKS reply 99"),
        ("socks5://p", [b"\5\0", b"\5\0\0\x09"], RemoteProtocolError, "broke the SOCKS protocol"),
        ("socks5://p", [b"\5\2"], RemoteProtocolError, "broke the SOCKS protocol"),
        ("socks5://p", [b"HT"], RemoteProtocolError, "write http://"),
        ("socks5://p", [b"SS"], RemoteProtocolError, "no SOCKS5 proxy"),
    ],
)
def test_what_a_proxy_refuses_is_said(url: str, answers: list[bytes], error: type[WarrenError], said: str) -> None:
    with pytest.raises(error, match=said):
        talk(url, "relay.local", *answers)


def test_a_name_that_does_not_fit_is_refused() -> None:
    with pytest.raises(Invalid, match="too long"):
        talk("socks5://p", "x" * 256)


def ended(url: str, pieces: list[bytes]) -> tuple[bytes, bool | str]:
    """Talk with a proxy that says this: all that was said to it, and whether the way is open or why not."""
    handshake = proxy_handshakes.begin(parse(url), "relay.local", 443)
    said, is_open = b"", False
    for piece in pieces:
        rest = piece
        while rest and not is_open:
            said += handshake.take_output()
            wanted = handshake.wanted
            try:
                is_open = handshake.feed(rest[:wanted])
            except (Unavailable, RemoteProtocolError) as error:
                return said, str(error)
            rest = rest[wanted:]
    return said, is_open


SEEDS = [path.read_bytes()[9:] for path in sorted((Path(__file__).parents[2] / "vectors/corpus/proxy").iterdir())]


@given(
    st.sampled_from(["http://p", "https://me:x@p", "socks5://p", "socks5://me:x@p"]),
    st.one_of(st.sampled_from(SEEDS), st.binary(max_size=64), st.binary(max_size=24).map(lambda tail: b"\5\0" + tail)),
    st.lists(st.integers(1, 7), min_size=1, max_size=8),
)
def test_it_ends_the_same_however_the_answer_is_cut(url: str, answer: bytes, lengths: list[int]) -> None:
    pieces: list[bytes] = []
    for length in cycle(lengths):
        if not answer:
            break
        pieces.append(answer[:length])
        answer = answer[length:]
    said, end = ended(url, pieces)
    assert (said, end) == ended(url, [b"".join(pieces)])
    assert isinstance(end, bool) or (len(end) < 1000 and end.isprintable())
