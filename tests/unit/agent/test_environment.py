"""What commands in a workspace find in their environment."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from warren.agent.environment import Login, Surroundings, compose
from warren.agent.expansion import expand_directory, expand_home, expand_variables
from warren.agent.manifest import Manifest, Secret

MANIFEST = Manifest(UUID(int=1), UUID(int=2), owner_name="alice", workspace_name="dev", agent_name="main")
AROUND = Surroundings(
    process={"PATH": "/usr/bin", "HOME": "/home/alice", "TAKEN": "process", "GOTRACEBACK": "none"},
    login=Login("alice", "/bin/zsh", "/home/from/database"),
    token="secret-token",
    program="/opt/coder",
    first_on_path=("/data/bin",),
)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("$HOME/x", "/h/x"),
        ("${HOME}x", "/hx"),
        ("$NOPE-${NOPE}", "-"),
        ("5$ and $", "5$ and $"),
        ("${}", ""),
        ("$HOME$HOME", "/h/h"),
        ("$$", ""),
    ],
)
def test_variables_are_expanded(text: str, expanded: str) -> None:
    assert expand_variables(text, {"HOME": "/h"}) == expanded


@pytest.mark.parametrize(
    ("directory", "expanded"),
    [
        ("", ""),
        ("~", "/home/a"),
        ("~/src", "/home/a/src"),
        ("src/x", "/home/a/src/x"),
        ("$WORK/x", "/work/x"),
        ("/abs", "/abs"),
        ("~bob", "/home/a/~bob"),
    ],
)
def test_directories_become_absolute(directory: str, expanded: str) -> None:
    assert expand_directory(directory, "/home/a", {"WORK": "/work"}) == expanded


def test_home_with_a_slash_at_its_end() -> None:
    assert expand_home("~/x", "/root/") == "/root/x"


def test_what_the_agent_predefines() -> None:
    environment = compose(replace(MANIFEST, port_proxy_uri="https://{{port}}--x"), AROUND)
    assert environment["CODER"] == "true"
    assert environment["CODER_WORKSPACE_NAME"] == "dev"
    assert environment["CODER_WORKSPACE_OWNER_NAME"] == "alice"
    assert environment["CODER_WORKSPACE_AGENT_NAME"] == "main"
    assert environment["CODER_AGENT_TOKEN"] == "secret-token"
    assert environment["GIT_SSH_COMMAND"] == "/opt/coder gitssh --"
    assert environment["GIT_ASKPASS"] == "/opt/coder"
    assert environment["VSCODE_PROXY_URI"] == "https://{{port}}--x"
    assert environment["USER"] == environment["LOGNAME"] == "alice"
    assert environment["SHELL"] == "/bin/zsh"
    assert "GOTRACEBACK" not in environment


def test_a_home_that_the_process_lacks_comes_from_the_user_database() -> None:
    assert compose(MANIFEST, AROUND)["HOME"] == "/home/alice"
    assert compose(MANIFEST, replace(AROUND, process={}))["HOME"] == "/home/from/database"


def test_no_proxy_variable_without_a_proxy() -> None:
    assert "VSCODE_PROXY_URI" not in compose(MANIFEST, AROUND)


def test_who_wins() -> None:
    manifest = replace(
        MANIFEST,
        environment={"A": "manifest-$TAKEN", "B": "manifest", "CODER": "manifest"},
        secrets=(Secret(b"raw $TAKEN", "B"), Secret(b"file only", "", "/x")),
    )
    sent = {"A": "client", "TAKEN": "client", "CODER_AGENT_TOKEN": "client", "NEW": "client", "SSH_CLIENT": "client"}
    environment = compose(manifest, AROUND, sent)
    assert environment["A"] == "manifest-process"
    assert environment["B"] == "raw $TAKEN", "secrets win over the manifest and are not expanded"
    assert environment["CODER"] == "manifest"
    assert environment["TAKEN"] == "process", "the agent's own variables win over a client's"
    assert environment["CODER_AGENT_TOKEN"] == "secret-token"
    assert environment["NEW"] == "client"
    assert environment["SSH_CLIENT"] == "0.0.0.0 0 0"


def test_the_path_begins_with_the_agents_folders() -> None:
    assert compose(MANIFEST, AROUND)["PATH"] == "/data/bin:/usr/bin"
    manifest = replace(MANIFEST, environment={"PATH": "/custom:$PATH"})
    assert compose(manifest, AROUND)["PATH"] == "/data/bin:/custom:/usr/bin"
