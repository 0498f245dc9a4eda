from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest

from warren.authz import scopes
from warren.authz.scopes import AllowEntry
from warren.errors import Invalid

RECORDED = Path(__file__).parent.parent.parent / "vectors/recorded/http.jsonl"


def test_the_scopes_that_a_token_may_have_are_those_of_upstream() -> None:
    recorded = next(
        entry["body"]["external"]
        for entry in map(json.loads, RECORDED.read_text().splitlines())
        if entry["path"] == "/api/v2/auth/scopes"
    )
    assert list(scopes.PUBLIC) == recorded


@pytest.mark.parametrize("name", ["everything", "workspace:fly", "no_user_data", "deployment_config:read", ""])
def test_other_scopes_are_refused_by_name(name: str) -> None:
    with pytest.raises(Invalid) as raised:
        scopes.parse(name)
    assert raised.value.detail == f'invalid or unsupported API key scope: "{name}"'


def test_old_names_stand_for_new_ones() -> None:
    assert scopes.parse("all") == "coder:all"
    assert scopes.parse("application_connect") == "coder:application_connect"


def test_an_allow_list_keeps_only_what_says_something() -> None:
    one, other = str(UUID(int=1)), str(UUID(int=2))
    given = [AllowEntry("workspace", one), AllowEntry("workspace", "*"), AllowEntry("template", other)]
    assert scopes.normalise(given) == (AllowEntry("template", other), AllowEntry("workspace", "*"))
    assert scopes.normalise([*given, scopes.EVERYTHING]) == (scopes.EVERYTHING,)
    assert scopes.normalise([]) == (scopes.EVERYTHING,)


@pytest.mark.parametrize("text", ["castle:*", "workspace:everything", "workspace", "*:nonsense"])
def test_a_malformed_allow_list_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        scopes.parse_allow_entry(text)
