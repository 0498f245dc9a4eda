from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from warren.domain import password, token
from warren.errors import Unauthenticated

NOW = datetime(2026, 11, 21, tzinfo=UTC)
KEY = token.Key(
    id="0123456789",
    hashed_secret=token.hashed("s" * 22),
    user_id=UUID(int=1),
    login_type="password",
    token_name="",
    scopes=["coder:all"],
    allow_list=["*:*"],
    lifetime_seconds=24 * 3600,
    last_used=NOW,
    expires_at=NOW + timedelta(hours=24),
    created_at=NOW,
    updated_at=NOW,
)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("nonsense", "incorrect amount of API key parts, expected 2 got 1"),
        ("a-b-c", "incorrect amount of API key parts, expected 2 got 3"),
        ("short-" + "s" * 22, "invalid API key ID length, expected 10 got 5"),
        ("0123456789-short", "invalid API key secret length, expected 22 got 5"),
    ],
)
def test_what_is_no_token_is_refused_with_the_reason(text: str, detail: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        token.split(text)
    assert raised.value.detail == f"Invalid API key format: {detail}"


def test_a_secret_matches_its_own_hash_only() -> None:
    assert token.split(f"{KEY.id}-{'s' * 22}") == (KEY.id, "s" * 22)
    assert token.matches("s" * 22, KEY.hashed_secret)
    assert not token.matches("t" * 22, KEY.hashed_secret)


@pytest.mark.parametrize(
    ("after", "login_type", "sliding", "expires_after"),
    [
        (timedelta(minutes=59), "password", True, None),
        (timedelta(hours=2), "password", True, timedelta(hours=26)),
        (timedelta(hours=2), "password", False, timedelta(hours=24)),
        (timedelta(hours=2), "token", True, timedelta(hours=24)),
    ],
)
def test_use_extends_a_session_at_most_once_an_hour(
    after: timedelta, login_type: str, sliding: bool, expires_after: timedelta | None
) -> None:
    use = token.use(replace(KEY, login_type=login_type), NOW + after, sliding=sliding)
    assert (None if use is None else use.expires_at) == (None if expires_after is None else NOW + expires_after)


@pytest.mark.parametrize("text", ["Passw0rd!xyz", "Sup3rSecret!pw", "correct horse battery staple"])
def test_strong_passwords(text: str) -> None:
    assert password.problem(text) == ""


@pytest.mark.parametrize("text", ["", "abc", "password", "aaaaaaaaaaaaaaaaaaaa", "12345678901234567890", "qwertyuiop"])
def test_weak_passwords(text: str) -> None:
    assert password.problem(text).startswith("insecure password, try ")


def test_the_advice_names_what_is_missing() -> None:
    assert password.problem("abc") == (
        "insecure password, try including more special characters, using uppercase letters, using numbers"
        " or using a longer password"
    )
    assert "no more than 64" in password.problem("A1!" * 30)
