"""What upstream answered about templates and workspaces in one session, asked again of our server, in order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest

from tests.integration.builds.http import Site
from tests.integration.builds.scripted_daemon import ScriptedDaemon, agent, resource
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd

pytestmark = pytest.mark.anyio

RECORDED = Path(__file__).parents[2] / "vectors" / "recorded" / "http.jsonl"
LAST = "unfavorite unknown"
AREA = ("/workspaces", "/workspacebuilds", "/users/me/workspace", "/templateversions", "/templates")
# Access lists and statistics come with later parts.
NOT_YET = ("/acl", "/daus")
# What only a connected agent and a real Terraform bring, and names that the recording's users have.
OF_THAT_RUN = {
    "first_connected_at", "last_connected_at", "started_at", "ready_at", "expanded_directory", "latency", "apps",
    "environment_variables", "reason", "metadata", "agents", "name", "scripts", "log_sources", "task_id", "directory",
    "exit_code", "status", "P50", "P95",
}  # fmt: skip
# Answered with 500 there by mistake.
MISTAKES = {"member edits template": 403}

PARAMETERS = [
    pb.RichParameter(
        name="cpu", display_name="CPU cores", description="How many cores", type="number", mutable=True,
        default_value="2", icon="/icon/memory.svg", validation_min=1, validation_max=8,
        validation_monotonic="increasing", order=1, form_type=pb.ParameterFormType.INPUT,
    ),
    pb.RichParameter(
        name="region", type="string", default_value="eu", order=2, form_type=pb.ParameterFormType.RADIO,
        options=[
            pb.RichParameterOption(name="Europe", value="eu", icon="/emojis/1f1ea-1f1fa.png"),
            pb.RichParameterOption(name="America", value="us", description="US east"),
        ],
    ),
    pb.RichParameter(
        name="debug", type="bool", default_value="false", mutable=True, ephemeral=True, order=3,
        form_type=pb.ParameterFormType.CHECKBOX,
    ),
    pb.RichParameter(
        name="tags", type="list(string)", default_value='["a","b"]', mutable=True, order=4,
        form_type=pb.ParameterFormType.TAGSELECT,
    ),
    pb.RichParameter(
        name="name", type="string", default_value="abc", mutable=True, validation_regex="^[a-z]+$",
        validation_error="only lower-case letters", order=5, form_type=pb.ParameterFormType.INPUT,
    ),
]  # fmt: skip
VARIABLES = [
    pb.TemplateVariable(name="greeting", description="Said at start.", type="string", default_value="hello"),
    pb.TemplateVariable(name="secret", type="string", default_value="x", sensitive=True),
]
PRESET = pb.Preset(
    name="Small", default=True, description="Two cores",
    parameters=[pb.PresetParameter(name="region", value="eu"), pb.PresetParameter(name="cpu", value="2")],
)  # fmt: skip
RESOURCES = [resource(agent(), name="ws"), resource(name="disk")]


JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | float | bool | None"


# `Any`: a recorded call, of which each field has its own type.
def recorded() -> list[dict[str, Any]]:
    """Read the calls of this area, in order."""
    calls = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    notes = [call["note"] for call in calls]
    first, last = notes.index("template"), notes.index(LAST)
    return [
        call
        for call in calls[first : last + 1]
        if any(part in call["path"] for part in AREA) and not any(part in call["path"] for part in NOT_YET)
    ]


def differences(ours: JSON, theirs: JSON, where: str = "") -> list[str]:
    """Name where the keys or the types of two documents differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        both = [key for key in theirs if key in ours and key not in OF_THAT_RUN]
        lone = [key for key in {*theirs} ^ {*ours} if key not in OF_THAT_RUN]
        return [f"{where}.{key} is only in one" for key in lone] + [
            line for key in both for line in differences(ours[key], theirs[key], f"{where}.{key}")
        ]
    if isinstance(theirs, list) and isinstance(ours, list):
        return differences(ours[0], theirs[0], f"{where}[]") if theirs and ours else []
    return [] if type(ours) is type(theirs) else [f"{where}: {ours!r} instead of {theirs!r}"]


async def prepare(site: Site, daemon: ScriptedDaemon, names: dict[str, str]) -> None:
    """Make the template and the workspace that the recording begins with."""
    organization = str(site.world.organization_id)
    body = {"storage_method": "file", "file_id": str(site.world.file_id), "provisioner": "terraform"}
    version = (await site.admin.post(f"/organizations/{organization}/templateversions", json=body)).json()
    await daemon.import_version(parameters=PARAMETERS, variables=VARIABLES, presets=[PRESET], resources=RESOURCES)
    template = await site.admin.post(
        f"/organizations/{organization}/templates", json={"name": "rich", "template_version_id": version["id"]}
    )
    workspace = await site.admin.post("/users/me/workspaces", json={"name": "r1", "template_id": template.json()["id"]})
    job = await daemon.acquire()
    await daemon.log(job.job_id, "a line")
    result = pbd.CompletedJob.WorkspaceBuild(state=b'{"version": 4}', resources=RESOURCES)
    await daemon.complete(pbd.CompletedJob(job_id=job.job_id, workspace_build=result))
    names |= {
        "c32da0c5-064d-4996-a6f6-82b31b7dc105": organization,
        "63e09513-3b40-4718-9f6a-81e79ddf1eb1": template.json()["id"],
        "6bece5be-d5a9-4fc0-a657-95b1f12851c0": version["id"],
        "3d463752-5353-45b4-9f34-5b955d94f637": workspace.json()["id"],
        "a2280b2a-6776-4a86-9605-d078b9362abc": workspace.json()["latest_build"]["id"],
    }


def translate(text: str, names: Mapping[str, str]) -> str:
    for theirs, ours in names.items():
        text = text.replace(theirs, ours)
    return text


async def ask(site: Site, call: dict[str, Any], names: Mapping[str, str]) -> httpx2.Response:
    client = site.member if call["note"].startswith("member") else site.admin
    body: JSON = call.get("request")
    if isinstance(body, dict) and "file_id" in body:
        body = body | {"file_id": str(site.world.file_id)}
    content = translate(json.dumps(body), names) if body is not None else None
    path = translate(call["path"], names).removeprefix("/api/v2")
    return await client.request(call["method"], path, content=content)


async def work(daemon: ScriptedDaemon, call: dict[str, Any]) -> None:
    """Do what the recording's provisioner did after a call."""
    if call["status"] != 201 or call["method"] != "POST":
        return
    if call["path"].endswith("/templateversions"):
        job = await daemon.acquire()
        await daemon.log(job.job_id, "Error: Unclosed configuration block")
        failed = pbd.FailedJob(job_id=job.job_id, error="exit status 1", template_import=pbd.FailedJob.TemplateImport())
        await daemon.fail(failed)
    elif call["path"].endswith("/builds") and call["note"] != "stop":
        await daemon.build(resources=RESOURCES if call["request"]["transition"] == "start" else [])


async def test_the_recorded_session(site: Site) -> None:
    daemon = await site.world.daemon()
    names: dict[str, str] = {}
    await prepare(site, daemon, names)
    found: list[str] = []
    for call in recorded():
        if call["note"] == "after stop":
            await daemon.build(resources=[])
        answer = await ask(site, call, names)
        where = f"{call['note']}: {call['method']} {call['path'].removeprefix('/api/v2')}"
        if answer.status_code != MISTAKES.get(call["note"], call["status"]):
            found.append(f"{where}: {answer.status_code} instead of {call['status']}: {answer.text[:200]}")
            continue
        await work(daemon, call)
        theirs: JSON = call["body"]
        if not isinstance(theirs, dict | list) or call["note"] in MISTAKES or "/state" in call["path"]:
            continue
        ours = answer.json()
        if isinstance(theirs, dict) and call["status"] == 201:
            names[str(theirs["id"])] = ours["id"]
        found += [f"{where}{line}" for line in differences(ours, theirs)]
        if call["status"] >= 400:
            wanted = json.loads(translate(json.dumps(theirs), names))
            if ours != wanted:
                found.append(f"{where}: {ours} instead of {wanted}")
    assert found == []
