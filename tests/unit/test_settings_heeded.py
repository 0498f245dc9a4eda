"""No setting is a promise that nothing keeps: each is used, refused, or says that it has no effect."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

import warren
from warren import settings
from warren.errors import Invalid
from warren.settings import Option

ROOT = Path(warren.__file__).parent
READERS = [*(ROOT / "server").glob("*.py"), ROOT / "cli" / "commands" / "server.py"]
"""What is given the settings; all else is given what these make of them."""
READ = set(re.findall(r"\bsettings\.([a-z0-9_]+)\b", "\n".join(path.read_text() for path in READERS)))
READ.add("tls_allow_insecure_ciphers")  # heeded where settings are checked against each other, see below
ALL = settings.options()


def another_value(option: Option) -> str:
    """Write a value that is well-formed, and not the default."""
    match option.default:
        case bool():
            return str(not option.default).lower()
        case int():
            return str(option.default + 1)
        case timedelta():
            return settings.duration_text(option.default + timedelta(hours=1))
        case list():
            return "another"
        case _:
            candidates = ("https://another.example.com", "another", "awsiamrds", "dom", "none", "tls13")
            for text in candidates:
                try:
                    if option.parse(text) != option.default:
                        return text
                except ValueError:
                    continue
            raise AssertionError(option.name)


@pytest.mark.parametrize("option", ALL, ids=[option.name for option in ALL])
def test_each_is_used_or_refused_or_says_that_it_does_nothing(option: Option) -> None:
    used = option.name in READ
    assert [used, option.planned, option.inert].count(True) == 1
    assert option.inert == option.help.startswith("Accepted; ")
    assert option.planned == option.help.endswith(settings.NOT_BUILT)
    if option.planned:
        with pytest.raises(Invalid) as raised:
            settings.load({}, {option.env: another_value(option)}, None)
        assert [(each.field, each.detail) for each in raised.value.violations] == [
            (option.env, "is not built yet; leave it out")
        ]


def test_the_default_of_what_is_not_built_may_be_written_out() -> None:
    everything = settings.to_yaml_tree(settings.load({}, {}, None))
    assert settings.load({}, {}, everything).settings == settings.load({}, {}, None).settings


def test_what_is_not_built_is_reported_with_the_other_mistakes() -> None:
    with pytest.raises(Invalid) as raised:
        settings.load({"trace": "true", "http_address": "x"}, {"CODER_SWAGGER_ENABLE": "true"}, None)
    assert {each.field for each in raised.value.violations} == {"--trace", "--http-address", "CODER_SWAGGER_ENABLE"}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"host_prefix_cookie": "true"}, "--host-prefix-cookie"),
        ({"host_prefix_cookie": "true", "access_url": "http://a.example"}, "--host-prefix-cookie"),
        ({"host_prefix_cookie": "true", "access_url": "https://a.example"}, ""),
        ({"host_prefix_cookie": "true", "secure_auth_cookie": "true"}, ""),
        ({"tls_ciphers": "ECDHE-RSA-AES128-GCM-SHA256,DES-CBC3-SHA"}, "--tls-ciphers"),
        ({"tls_ciphers": "DES-CBC3-SHA", "tls_allow_insecure_ciphers": "true"}, ""),
        ({"prometheus_aggregate_agent_stats_by": "username,shoe_size"}, "--prometheus-aggregate-agent-stats-by"),
    ],
)
def test_settings_that_do_not_go_together(given: dict[str, object], field: str) -> None:
    if not field:
        settings.load(given, {}, None)
        return
    with pytest.raises(Invalid) as raised:
        settings.load(given, {}, None)
    assert [each.field for each in raised.value.violations] == [field]
