from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import connect

from tests.integration.builds.http import Site
from tests.integration.routes import HEADER
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd

pytestmark = pytest.mark.anyio

PARAMETERS = [
    pb.RichParameter(
        name="cpu", display_name="CPU cores", description="How **many** cores", type="number", mutable=True,
        default_value="2", validation_min=1, validation_max=8, validation_monotonic="increasing", order=1,
        form_type=pb.ParameterFormType.INPUT,
    ),
    pb.RichParameter(
        name="region", type="string", default_value="eu", order=2, form_type=pb.ParameterFormType.RADIO,
        options=[pb.RichParameterOption(name="Europe", value="eu"), pb.RichParameterOption(name="US", value="us")],
    ),
]  # fmt: skip
VARIABLES = [
    pb.TemplateVariable(name="greeting", type="string", default_value="hello"),
    pb.TemplateVariable(name="secret", type="string", default_value="s3cret", sensitive=True),
]
PRESETS = [
    pb.Preset(name="Small", default=True, parameters=[pb.PresetParameter(name="region", value="eu")]),
]


# `Any`: JSON documents.
async def template_of(site: Site) -> dict[str, Any]:
    """Push a version over HTTP, import it, make a template of it."""
    organization = f"/organizations/{site.world.organization_id}"
    body = {"storage_method": "file", "file_id": str(site.world.file_id), "provisioner": "terraform", "name": "v1"}
    answer = await site.admin.post(f"{organization}/templateversions", json=body)
    assert answer.status_code == 201, answer.text
    version = answer.json()
    daemon = await site.world.daemon()
    await daemon.import_version(parameters=PARAMETERS, variables=VARIABLES, presets=PRESETS)
    answer = await site.admin.post(
        f"{organization}/templates", json={"name": "rich", "template_version_id": version["id"]}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


async def workspace_of(site: Site, template: dict[str, Any], **fields: object) -> dict[str, Any]:
    body = {"template_id": template["id"], "name": "r1"} | fields
    answer = await site.admin.post("/users/me/workspaces", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_the_life_of_a_workspace(site: Site) -> None:
    daemon = await site.world.daemon()
    template = await template_of(site)
    created = await workspace_of(site, template)
    build = created["latest_build"]
    assert (build["status"], build["resources"], build["template_version_name"]) == ("pending", [], "")
    assert build["matched_provisioners"]["count"] == 1
    assert build["job"]["metadata"]["template_id"] == "00000000-0000-0000-0000-000000000000"

    await daemon.build()
    found = (await site.admin.get(f"/workspaces/{created['id']}")).json()
    assert found["latest_build"]["status"] == "running"
    assert found["latest_build"]["template_version_name"] == "v1"
    assert found["latest_build"]["template_version_preset_id"] is not None
    agent = found["latest_build"]["resources"][0]["agents"][0]
    assert (agent["name"], agent["status"], agent["display_apps"]) == ("main", "connecting", ["vscode", "web_terminal"])
    assert found["health"] == {"healthy": False, "failing_agents": [agent["id"]]} or found["health"]["healthy"]
    assert (await site.admin.get("/users/me/workspace/R1")).json()["id"] == created["id"]
    build_path = f"/workspacebuilds/{build['id']}"
    parameters = (await site.admin.get(f"{build_path}/parameters")).json()
    assert sorted((item["name"], item["value"]) for item in parameters) == [("cpu", "2"), ("region", "eu")]
    assert (await site.admin.get(f"{build_path}/state")).json() == {"version": 4}

    builds_path = f"/workspaces/{created['id']}/builds"
    answer = await site.admin.post(builds_path, json={"transition": "stop", "reason": "cli"})
    assert (answer.status_code, answer.json()["reason"]) == (201, "cli")
    answer = await site.admin.post(builds_path, json={"transition": "start"})
    assert answer.status_code == 409
    assert answer.json() == {
        "message": "A workspace build is already active.", "detail": "A workspace build is already active.",
    }  # fmt: skip
    await daemon.build(resources=[])
    listed = (await site.admin.get(builds_path)).json()
    assert [(item["build_number"], item["status"]) for item in listed] == [(2, "stopped"), (1, "running")]

    assert (await site.admin.post(builds_path, json={"transition": "delete"})).status_code == 201
    await daemon.build(resources=[], state=b"")
    answer = await site.admin.get(f"/workspaces/{created['id']}")
    assert answer.status_code == 410
    assert answer.json()["message"].startswith(f'Workspace "{created["id"]}" was deleted')
    deleted = (await site.admin.get(f"/workspaces/{created['id']}?include_deleted=true")).json()
    assert deleted["latest_build"]["status"] == "deleted"
    answer = await site.admin.post(builds_path, json={"transition": "start"})
    assert (answer.status_code, answer.json()["message"]) == (409, "Cannot start a deleted workspace!")
    assert (await site.admin.get("/users/me/workspace/r1")).status_code == 404
    assert (await site.admin.get("/workspaces")).json() == {"workspaces": [], "count": 0}


NIL = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("body", "status", "answer"),
    [
        (
            {"name": "Bad_Name!"},
            400,
            {
                "message": "Validation failed.",
                "validations": [
                    {"field": "name", "detail": 'Validation failed for tag "workspace_name" with value: "Bad_Name!"'}
                ],
            },
        ),
        (
            {"name": "r2", "template_id": NIL},
            400,
            {
                "message": "Validation failed.",
                "validations": [
                    {"field": field, "detail": f'Validation failed for tag "required_without" with value: "{NIL}"'}
                    for field in ("template_id", "template_version_id")
                ],
            },
        ),
        (
            {"name": "r2", "rich_parameter_values": [{"name": "cpu", "value": "99"}]},
            400,
            {
                "message": "Unable to validate parameters",
                "validations": [
                    {
                        "field": "cpu",
                        "detail": "Invalid parameter value according to 'validation' block;"
                        " value 99 is more than the maximum 8",
                    }
                ],
            },
        ),
        (
            {"name": "r1"},
            409,
            {
                "message": 'Workspace "r1" already exists.',
                "validations": [{"field": "name", "detail": "This value is already in use and should be unique."}],
            },
        ),
        (
            {"name": "r2", "ttl_ms": 1},
            400,
            {
                "message": "Error updating workspace time until shutdown.",
                "validations": [{"field": "ttl_ms", "detail": "time until shutdown must be at least one minute"}],
            },
        ),
    ],
)
async def test_refused_creations(site: Site, body: dict[str, Any], status: int, answer: dict[str, Any]) -> None:
    template = await template_of(site)
    await workspace_of(site, template)
    refused = await site.admin.post("/users/me/workspaces", json={"template_id": template["id"]} | body)
    assert (refused.status_code, refused.json()) == (status, answer)


async def test_settings_of_a_workspace(site: Site) -> None:
    template = await template_of(site)
    workspace = await workspace_of(site, template)
    path = f"/workspaces/{workspace['id']}"
    assert (await site.admin.put(f"{path}/ttl", json={"ttl_ms": 7200000})).status_code == 204
    schedule = "CRON_TZ=Europe/Berlin 30 9 * * 1-5"
    assert (await site.admin.put(f"{path}/autostart", json={"schedule": schedule})).status_code == 204
    assert (await site.admin.put(f"{path}/autoupdates", json={"automatic_updates": "always"})).status_code == 204
    assert (await site.admin.put(f"{path}/favorite")).status_code == 204
    assert (await site.admin.put(f"{path}/dormant", json={"dormant": False})).status_code == 304
    assert (await site.admin.post(f"{path}/usage")).status_code == 204
    assert (await site.admin.patch(path, json={"name": "r1"})).status_code == 204
    found = (await site.admin.get(path)).json()
    assert (found["ttl_ms"], found["autostart_schedule"], found["automatic_updates"], found["favorite"]) == (
        7200000, schedule, "always", True,
    )  # fmt: skip
    assert found["next_start_at"] is not None
    for name, body, status, detail in (
        ("ttl", {"ttl_ms": 1}, 400, "time until shutdown must be at least one minute"),
        (
            "autostart",
            {"schedule": "nonsense"},
            400,
            "validate weekly schedule: expected schedule to consist of 5 fields with an optional"
            " CRON_TZ=<timezone> prefix",
        ),
        ("extend", {"deadline": "2020-01-01T00:00:00Z"}, 409, ""),
    ):
        answer = await site.admin.put(f"{path}/{name}", json=body)
        assert answer.status_code == status, answer.text
        assert (answer.json().get("validations") or [{"detail": ""}])[0]["detail"] == detail
    answer = await site.admin.patch(path, json={"name": "-"})
    assert answer.status_code == 400
    await workspace_of(site, template, name="taken")
    assert (await site.admin.patch(path, json={"name": "Taken"})).status_code == 409
    assert (await site.admin.patch(path, json={"name": "r2"})).status_code == 204
    assert (await site.admin.get(path)).json()["name"] == "r2"
    assert (await site.admin.get(f"{path}/port-share")).json() == {"shares": []}
    assert (await site.admin.get(f"{path}/resolve-autostart")).json() == {"parameter_mismatch": False}
    dormant = await site.admin.put(f"{path}/dormant", json={"dormant": True})
    assert dormant.json()["dormant_at"] is not None


async def test_what_a_member_may_not_see(site: Site) -> None:
    template = await template_of(site)
    workspace = await workspace_of(site, template)
    hidden = {"message": "Resource not found or you do not have access to this resource"}
    path = f"/workspaces/{workspace['id']}"
    for answer in (
        await site.member.get(path),
        await site.member.post(f"{path}/builds", json={"transition": "stop"}),
        await site.member.get(f"/workspacebuilds/{workspace['latest_build']['id']}"),
        await site.member.get(f"{path}/watch"),
        await site.member.get(f"/users/admin/workspace/{workspace['name']}"),
    ):
        assert (answer.status_code, answer.json()) == (404, hidden)
    assert (await site.member.get("/workspaces")).json() == {"workspaces": [], "count": 0}
    assert (await site.member.get(f"/templates/{template['id']}")).status_code == 200
    answer = await site.member.patch(f"/templates/{template['id']}", json={"description": "x"})
    assert answer.status_code == 403
    own = await site.member.post("/users/me/workspaces", json={"template_id": template["id"], "name": "mine"})
    assert own.status_code == 201
    answer = await site.member.post("/users/admin/workspaces", json={"template_id": template["id"], "name": "theirs"})
    assert (answer.status_code, answer.json()["message"]) == (403, "Unauthorized to create workspace.")


async def test_lists_and_searches(site: Site) -> None:
    daemon = await site.world.daemon()
    template = await template_of(site)
    for name in ("b", "a", "c"):
        await workspace_of(site, template, name=name)
        if name == "c":
            await daemon.build()
            await daemon.build()
            await daemon.build()

    async def names(query: str) -> list[str]:
        answer = await site.admin.get(f"/workspaces?{query}")
        assert answer.status_code == 200, answer.text
        return [item["name"] for item in answer.json()["workspaces"]]

    assert await names("") == ["a", "b", "c"]
    assert await names("limit=1&offset=1") == ["b"]
    assert (await site.admin.get("/workspaces?offset=9")).json() == {"workspaces": [], "count": 3}
    assert await names("q=admin/b") == ["b"]
    assert await names("q=owner:me status:running template:rich param:cpu=2") == ["a", "b", "c"]
    assert await names("q=status:stopped") == []
    assert await names("q=has-agent:connecting") == ["a", "b", "c"]
    found = (await site.admin.get("/workspaces?q=name:c")).json()["workspaces"][0]
    await site.admin.put(f"/workspaces/{found['id']}/favorite")
    assert await names("") == ["c", "a", "b"]
    await site.admin.post(f"/workspaces/{found['id']}/builds", json={"transition": "stop"})
    listed = (await site.admin.get("/workspaces?q=name:c")).json()["workspaces"][0]
    assert listed["latest_build"]["status"] == "pending"
    assert listed["favorite"] is True
    assert listed == (await site.admin.get(f"/workspaces/{found['id']}")).json()
    answer = await site.admin.get("/workspaces?q=bogus:1")
    assert (answer.status_code, answer.json()) == (
        400,
        {
            "message": "Invalid workspace search query.",
            "validations": [{"field": "bogus", "detail": '"bogus" is not a valid query param'}],
        },
    )
    assert (await site.admin.get("/workspaces?limit=-1")).status_code == 400


async def test_logs_are_followed_on_a_socket(site: Site) -> None:
    daemon = await site.world.daemon()
    workspace = await workspace_of(site, await template_of(site))
    job = await daemon.acquire()
    path = f"/workspacebuilds/{workspace['latest_build']['id']}/logs"
    await daemon.log(job.job_id, "first <b>")
    url = site.url.replace("http", "ws") + f"/api/v2{path}?follow"
    async with connect(url, additional_headers={HEADER: site.admin_token}) as socket:
        with anyio.fail_after(20):
            line = json.loads(await socket.recv())
            assert (line["output"], line["log_source"], line["log_level"]) == ("first <b>", "provisioner", "info")
            await daemon.log(job.job_id, "second")
            assert json.loads(await socket.recv())["output"] == "second"
            done = pbd.CompletedJob.WorkspaceBuild(state=b"s")
            await daemon.complete(pbd.CompletedJob(job_id=job.job_id, workspace_build=done))
            await socket.wait_closed()
    assert socket.close_code == 1000
    answer = await site.admin.get(f"{path}?after={line['id']}")
    assert [item["output"] for item in answer.json()] == ["second"]
    text = await site.admin.get(f"{path}?format=text")
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text.splitlines()[0].endswith("[info] [provisioner|Planning Infrastructure] first <b>")
    assert (await site.admin.get(f"{path}?format=text&follow")).status_code == 400


async def test_a_workspace_is_watched(site: Site) -> None:
    daemon = await site.world.daemon()
    workspace = await workspace_of(site, await template_of(site))
    seen: list[str] = []
    with anyio.fail_after(20):
        async with site.admin.stream("GET", f"/workspaces/{workspace['id']}/watch") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if not line.startswith("data: "):
                    continue
                seen.append(json.loads(line[6:])["latest_build"]["status"])
                if len(seen) == 1:
                    await daemon.build()
                if seen[-1] == "running":
                    break
    assert seen[0] == "pending"
    assert set(seen) <= {"pending", "starting", "running"}


async def test_cancel_over_http(site: Site) -> None:
    template = await template_of(site)
    workspace = await workspace_of(site, template)
    path = f"/workspacebuilds/{workspace['latest_build']['id']}/cancel"
    assert (await site.admin.patch(f"{path}?expect_status=nonsense")).status_code == 400
    assert (await site.admin.patch(f"{path}?expect_status=running")).status_code == 412
    assert (await site.admin.patch(f"{path}?expect_status=pending")).status_code == 200
    answer = await site.admin.patch(path)
    assert (answer.status_code, answer.json()) == (400, {"message": "Job has already completed!"})

    own = (await site.member.post("/users/me/workspaces", json={"template_id": template["id"], "name": "m"})).json()
    path = f"/workspacebuilds/{own['latest_build']['id']}/cancel"
    answer = await site.member.patch(path)
    assert (answer.status_code, answer.json()["message"]) == (
        403, "User is not allowed to cancel workspace builds. Owner role is required.",
    )  # fmt: skip
    assert (await site.member.patch(f"{path}?expect_status=pending")).status_code == 200


async def test_operators_see_jobs_and_daemons(site: Site) -> None:
    await workspace_of(site, await template_of(site))
    organization = f"/organizations/{site.world.organization_id}"
    jobs = (await site.admin.get(f"{organization}/provisionerjobs?limit=3")).json()
    assert [job["type"] for job in jobs] == ["workspace_build", "template_version_import"]
    assert (jobs[0]["queue_position"], jobs[0]["queue_size"]) == (1, 1)
    assert jobs[0]["metadata"]["workspace_name"] == "r1"
    assert (await site.admin.get(f"{organization}/provisionerjobs/{jobs[0]['id']}")).json()["id"] == jobs[0]["id"]
    assert (await site.member.get(f"{organization}/provisionerjobs")).status_code == 404
    daemons = (await site.admin.get(f"{organization}/provisionerdaemons")).json()
    assert [(daemon["name"], daemon["key_name"], daemon["status"]) for daemon in daemons] == [
        ("vm-0", "built-in", "idle")
    ]
    assert daemons[0]["previous_job"]["template_name"] == "rich"


async def test_changed_immutable_parameter_is_refused(site: Site) -> None:
    daemon = await site.world.daemon()
    workspace = await workspace_of(site, await template_of(site))
    await daemon.build()
    body = {"transition": "start", "rich_parameter_values": [{"name": "region", "value": "us"}]}
    answer = await site.admin.post(f"/workspaces/{workspace['id']}/builds", json=body)
    assert answer.status_code == 400
    assert answer.json() == {
        "message": "Unable to validate parameters",
        "validations": [
            {
                "field": "region",
                "detail": 'Immutable parameter changed; Parameter "region" is not mutable,'
                " so it can't be updated after creating a workspace.",
            }
        ],
    }


async def test_a_follow_up_build_is_queued_on_success(site: Site) -> None:
    daemon = await site.world.daemon()
    workspace = await workspace_of(site, await template_of(site))
    await daemon.build()
    path = f"/workspaces/{workspace['id']}/builds"
    then = {"transition": "start", "rich_parameter_values": [{"name": "cpu", "value": "4"}]}
    answer = await site.admin.post(path, json={"transition": "stop", "on_success": then})
    assert answer.status_code == 201
    await daemon.build(resources=[])
    job = await daemon.build()
    assert job.workspace_build.metadata.workspace_transition == pb.WorkspaceTransition.START
    assert ("cpu", "4") in [(value.name, value.value) for value in job.workspace_build.rich_parameter_values]
    listed = (await site.admin.get(path)).json()
    assert [(item["build_number"], item["status"]) for item in listed] == [
        (3, "running"),
        (2, "stopped"),
        (1, "running"),
    ]
    answer = await site.admin.post(path, json={"transition": "stop", "on_success": {"transition": "jump"}})
    assert answer.status_code == 400


async def test_a_follow_up_build_does_not_come_after_a_failure(site: Site) -> None:
    daemon = await site.world.daemon()
    workspace = await workspace_of(site, await template_of(site))
    await daemon.build()
    path = f"/workspaces/{workspace['id']}/builds"
    await site.admin.post(path, json={"transition": "stop", "on_success": {"transition": "start"}})
    job = await daemon.acquire()
    failed = pbd.FailedJob.WorkspaceBuild()
    await daemon.fail(pbd.FailedJob(job_id=job.job_id, error="exit status 1", workspace_build=failed))
    listed = (await site.admin.get(path)).json()
    assert [(item["build_number"], item["status"]) for item in listed] == [(2, "failed"), (1, "running")]
