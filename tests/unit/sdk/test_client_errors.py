import pytest

from warren.errors import (
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    RemoteError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Violation,
    WarrenError,
)
from warren.sdk import client_errors

JSON = {"Content-Type": "application/json; charset=utf-8"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthenticated),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (412, Conflict),
        (413, TooLarge),
        (425, Conflict),
        (429, Unavailable),
        (500, RemoteError),
        (503, Unavailable),
    ],
)
def test_statuses(status: int, kind: type[WarrenError]) -> None:
    error = client_errors.from_answer(status, JSON, b'{"message":"what","detail":"why"}')
    assert type(error) is kind
    assert (error.message, error.detail) == ("what", "why")


def test_refused_fields_are_kept() -> None:
    body = b'{"message":"no","validations":[{"field":"name","detail":"taken"}],"unknown":1}'
    assert client_errors.from_answer(400, JSON, body).violations == (Violation("name", "taken"),)


@pytest.mark.parametrize(
    ("headers", "body"), [({"Content-Type": "text/html"}, b"<h1>Bad Gateway"), (JSON, b"{broken"), ({}, b"")]
)
def test_answers_that_are_not_ours_are_told_as_they_are(headers: dict[str, str], body: bytes) -> None:
    error = client_errors.from_answer(502, headers, body)
    assert isinstance(error, Unavailable)
    assert error.message == "unexpected non-JSON response with status 502"
    assert error.detail == body.decode()
