from __future__ import annotations

from datetime import timedelta

import pytest

from warren import settings
from warren.errors import Invalid


def test_a_flag_wins_over_the_environment_and_that_over_the_file() -> None:
    document = {"networking": {"http": {"httpAddress": "127.0.0.1:1", "sessionDuration": "3h"}}, "pgConnMaxOpen": 7}
    environment = {"CODER_HTTP_ADDRESS": "127.0.0.1:2", "CODER_PG_CONN_MAX_OPEN": "8", "WARREN_PG_CONN_MAX_OPEN": "9"}
    loaded = settings.load({"http_address": "127.0.0.1:3"}, environment, document)
    assert loaded.settings.http_address == "127.0.0.1:3"
    assert loaded.settings.postgres_conn_max_open == 9
    assert loaded.settings.session_duration == timedelta(hours=3)
    assert loaded.sources == {"http_address": "flag", "postgres_conn_max_open": "env", "session_duration": "yaml"}


def test_all_mistakes_are_reported_together() -> None:
    with pytest.raises(Invalid) as raised:
        settings.load(
            {"http_address": "x", "tls_enable": "true"},
            {"WARREN_SESSION_DURATION": "soon"},
            {"pgAuth": "magic", "nonsense": {"deep": 1}},
        )
    assert {violation.field for violation in raised.value.violations} == {
        "--http-address",
        "--tls-enable",
        "WARREN_SESSION_DURATION",
        "pgAuth",
        "nonsense.deep",
    }


def test_a_secret_is_shown_nowhere() -> None:
    loaded = settings.load({}, {"CODER_PG_CONNECTION_URL": "postgres://u:hunter2@h/d"}, None)
    assert loaded.settings.postgres_url == "postgres://u:hunter2@h/d"
    assert "hunter2" not in repr(loaded)
    assert "hunter2" not in str(settings.to_yaml_tree(loaded))


def test_what_is_written_is_read_back_the_same() -> None:
    given = {"CODER_SESSION_DURATION": "90m", "CODER_EXPERIMENTS": "a,b", "CODER_SECURE_AUTH_COOKIE": "true"}
    loaded = settings.load({}, given, None)
    again = settings.load({}, {}, settings.to_yaml_tree(loaded))
    assert again.settings == loaded.settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", timedelta(days=7)),
        ("1h30m", timedelta(minutes=90)),
        ("0", timedelta()),
        ("15ms", timedelta(milliseconds=15)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert settings.parse_duration(text) == expected
    assert settings.parse_duration(settings.duration_text(expected)) == expected


def test_every_setting_has_names_of_its_own() -> None:
    options = settings.options()
    assert len({option.flag for option in options}) == len(options)
    assert len({option.env for option in options}) == len(options)
    keys = [option.yaml for option in options if option.yaml]
    assert len(set(keys)) == len(keys)
