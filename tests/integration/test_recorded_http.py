# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# JSON has no types; what it holds is what these tests are about.
"""Our answers against those recorded from upstream: status, keys, types, and the message of refusals."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests.server import EMAIL, PASSWORD, Site

pytestmark = pytest.mark.anyio

RECORDED = Path(__file__).parent.parent / "vectors/recorded/http.jsonl"

# What is not there yet, by method and path; only ever shorter.
NOT_YET = (
    "GET /api/v2/notifications/",
    "GET /api/v2/users/me/notifications/preferences",
    "GET /api/v2/external-auth",
    "GET /api/v2/audit",
    "GET /api/v2/insights/",
    "GET /api/v2/debug/health",
)
# Recorded from the open-source edition, which refuses what Warren has; or about things that only that run had.
DIFFERENT = (
    "GET /api/v2/entitlements",
    "GET /api/v2/appearance",
    "GET /bin/",  # ours says why, as JSON
    "GET /api/v2/users/me/keys/tokens/ci",
    "GET /api/v2/derp-map",  # needs a WebSocket: the text of the refusal is of upstream's library
)
_WORKSPACES = (
    *("/workspaces", "/workspacebuilds", "/workspaceagents", "/templateversions", "/templates"),
    *("/provisioner", "/users/me/workspace/", "/files"),
)
# Values of one run, under these keys.
_OPEN_MAPS = {"ssh_config_options", "organization_roles", "config"}


@dataclass(frozen=True)
class Call:
    """One recorded request and its answer."""

    note: str
    method: str
    path: str
    request: Any  # JSON
    status: int
    body: Any  # JSON, or text
    anonymous: bool

    def __str__(self) -> str:
        return f"{self.note}: {self.method} {self.path.removeprefix('/api/v2')}"


def _calls() -> list[Call]:
    found: list[Call] = []
    for line in RECORDED.read_text().splitlines():
        entry: Mapping[str, Any] = json.loads(line)
        call = Call(
            note=entry["note"],
            method=entry["method"],
            path=entry["path"],
            request=entry.get("request"),
            status=entry["status"],
            body=entry["body"],
            anonymous=entry.get("auth") == "none",
        )
        name = f"{call.method} {call.path}"
        if not any(part in call.path for part in _WORKSPACES) and not name.startswith((*NOT_YET, *DIFFERENT)):
            found.append(call)
    return found


@dataclass
class Lab:
    """A server in the state of the recording, as far as accounts go."""

    client: httpx2.AsyncClient
    admin: Mapping[str, str]
    member: Mapping[str, str]
    organization_id: str


@pytest.fixture
async def lab(server: Site) -> AsyncGenerator[Lab]:
    bob = await server.member("bob")
    organization = (await server.admin.organizations.mine())[0]
    async with httpx2.AsyncClient(base_url=server.url) as client:
        yield Lab(
            client,
            {"Coder-Session-Token": server.admin.token},
            {"Coder-Session-Token": bob.token},
            str(organization.id),
        )


RECORDED_ORGANIZATION = "c32da0c5-064d-4996-a6f6-82b31b7dc105"
_BAD = {"malformed credential": "nonsense", "unknown key": "0123456789-0123456789012345678901"}


async def _ask(lab: Lab, call: Call) -> httpx2.Response:
    headers = dict(lab.member if call.note.startswith("member") else lab.admin)
    if call.anonymous:
        headers = {}
    if call.note in _BAD:
        headers = {"Coder-Session-Token": _BAD[call.note]}
    text = json.dumps(call.request).replace(RECORDED_ORGANIZATION, lab.organization_id) if call.request else None
    if call.note == "login bad json":
        text = "{nonsense"
    if call.note == "login":
        text = json.dumps({"email": EMAIL, "password": PASSWORD})
    path = call.path.replace(RECORDED_ORGANIZATION, lab.organization_id)
    return await lab.client.request(call.method, path, content=text, headers=headers)


def _differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Compare shapes: the same keys, the same types."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        if where.rpartition(".")[2] in _OPEN_MAPS:
            return []
        missing = [f"{where}.{key} is missing" for key in theirs if key not in ours]
        extra = [f"{where}.{key} is not recorded" for key in ours if key not in theirs]
        both = [
            line for key in theirs if key in ours for line in _differences(ours[key], theirs[key], f"{where}.{key}")
        ]
        return missing + extra + both
    if isinstance(theirs, list) and isinstance(ours, list):
        return _differences(ours[0], theirs[0], f"{where}[]") if theirs and ours else []
    if isinstance(theirs, bool) or isinstance(ours, bool) or theirs is None or ours is None:
        return [] if type(ours) is type(theirs) else [f"{where}: {ours!r} instead of {theirs!r}"]
    if isinstance(theirs, int | float) and isinstance(ours, int | float):
        return []
    return [] if type(ours) is type(theirs) else [f"{where}: {type(ours)} instead of {type(theirs)}"]


# Calls that need what an earlier one of the recording made, in order.
PREPARED: Mapping[str, tuple[str, ...]] = {
    "create user again": ("create user",),
    "suspend": ("create user",),
    "suspended login": ("create user", "suspend"),
    "activate": ("create user", "suspend"),
    "roles": ("create user", "activate"),
    "roles unknown": ("create user",),
    "delete user": ("create user",),
    "token same name": ("token",),
}
# Absent or not as the run's users had them; browser notifications are for later.
_PERSONAL = {"name", "detail", "avatar_url", "webpush_public_key"}


@pytest.mark.parametrize("call", _calls(), ids=str)
async def test_the_answer_has_the_recorded_shape(lab: Lab, call: Call) -> None:
    recorded = {other.note: other for other in _calls()}
    for note in PREPARED.get(call.note, ()):
        assert (await _ask(lab, recorded[note])).is_success
    with anyio.fail_after(20):
        answer = await _ask(lab, call)
    assert answer.status_code == call.status, answer.text
    if not isinstance(call.body, dict | list):
        if "init-script" not in call.path:
            assert answer.text.strip() == str(call.body).strip()
        return
    ours = answer.json()
    if call.path.endswith("/deployment/config") and call.status == 200:
        _check_config(ours, call.body)
        return
    found = _differences(ours, call.body)
    assert [line for line in found if not any(f".{key} " in line for key in _PERSONAL)] == []
    if call.status >= 400:
        assert isinstance(call.body, dict)
        assert ours["message"] == call.body["message"]
        assert ours.get("validations") == call.body.get("validations")


def _check_config(ours: Any, theirs: Any) -> None:
    """Every setting that we have stands where upstream's clients look for it, and has the same type."""
    found = [line for line in _differences(ours["config"], theirs["config"]) if "instead of" in line]
    # Upstream's lists are null when they are empty; clients take both.
    assert [line for line in found if "[]" not in line] == []
    assert _differences(ours["options"][0], theirs["options"][0] | {"hidden": False, "default": ""}) is not None
