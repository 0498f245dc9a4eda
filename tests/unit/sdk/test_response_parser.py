from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.errors import RemoteProtocolError, Unavailable
from warren.sdk.client_transport import ResponseParser, encode_query

CHUNKED = b"\r\n".join(
    [
        b"HTTP/1.1 200 OK",
        b"Content-Type: text/plain",
        b"Transfer-Encoding: chunked",
        b"",
        b"5",
        b"hello",
        b"6",
        b" world",
        b"0",
        b"",
        b"",
    ]
)


@given(st.sets(st.integers(min_value=1, max_value=len(CHUNKED) - 1)))
def test_any_split_of_the_bytes_gives_the_same_answer(cuts: set[int]) -> None:
    parser, body, edges = ResponseParser(), b"", [0, *sorted(cuts), len(CHUNKED)]
    for start, end in pairwise(edges):
        parser.feed(CHUNKED[start:end])
        body += parser.take()
    assert (parser.status, parser.done, body) == (200, True, b"hello world")
    assert parser.headers["content-type"] == "text/plain"
    assert parser.reusable


def test_a_body_without_a_length_ends_with_the_stream() -> None:
    parser = ResponseParser()
    parser.feed(b"HTTP/1.1 200 OK\r\n\r\nrest")
    assert not parser.done
    parser.feed_eof()
    assert parser.done
    assert parser.take() == b"rest"


def test_a_cut_body_is_noticed() -> None:
    parser = ResponseParser()
    parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    with pytest.raises(Unavailable):
        parser.feed_eof()


def test_other_protocols_are_noticed() -> None:
    with pytest.raises(RemoteProtocolError):
        ResponseParser().feed(b"SSH-2.0-OpenSSH\r\n")


def test_connection_close_is_not_reused() -> None:
    parser = ResponseParser()
    parser.feed(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    assert parser.done
    assert not parser.reusable


def test_queries() -> None:
    assert encode_query(None) == ""
    assert encode_query({"q": "owner:me a&b", "limit": 2, "x": None, "on": True, "l": ["1", "2"]}) == (
        "?q=owner%3Ame+a%26b&limit=2&on=true&l=1&l=2"
    )
