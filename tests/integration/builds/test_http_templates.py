"""Templates and their versions over HTTP."""

from __future__ import annotations

import json

import anyio
import pytest
from websockets.asyncio.client import connect

from tests.integration.builds.http import Site
from tests.integration.builds.test_http import template_of, workspace_of
from tests.integration.routes import HEADER
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd

pytestmark = pytest.mark.anyio


async def test_templates_and_versions(site: Site) -> None:
    template = await template_of(site)
    path = f"/templates/{template['id']}"
    assert template["build_time_stats"]["start"] == {"P50": None, "P95": None}
    assert template["autostop_requirement"] == {"days_of_week": [], "weeks": 1}
    version = f"/templateversions/{template['active_version_id']}"
    parameters = (await site.admin.get(f"{version}/rich-parameters")).json()
    assert parameters[0] == {
        "name": "cpu", "display_name": "CPU cores", "description": "How **many** cores",
        "description_plaintext": "How many cores", "type": "number", "form_type": "input", "mutable": True,
        "default_value": "2", "icon": "", "options": [], "validation_min": 1, "validation_max": 8,
        "validation_monotonic": "increasing", "required": False, "ephemeral": False,
    }  # fmt: skip
    variables = (await site.admin.get(f"{version}/variables")).json()
    assert [(item["name"], item["value"], item["default_value"]) for item in variables] == [
        ("greeting", "hello", "hello"), ("secret", "*redacted*", "*redacted*"),
    ]  # fmt: skip
    preset = (await site.admin.get(f"{version}/presets")).json()[0]
    assert (preset["Name"], preset["Default"], preset["Parameters"]) == (
        "Small",
        True,
        [{"Name": "region", "Value": "eu"}],
    )
    assert (await site.admin.get(f"{version}/external-auth")).json() == []
    assert (await site.admin.get(f"{version}/parameters")).json() == []
    assert len((await site.admin.get(f"{version}/resources")).json()) == 2
    assert (await site.admin.get(version)).json()["readme"] == "# Read me\n"

    answer = await site.admin.patch(path, json={"description": "edited", "default_ttl_ms": 3600000})
    assert (answer.json()["description"], answer.json()["default_ttl_ms"]) == ("edited", 3600000)
    answer = await site.admin.patch(path, json={"name": "Bad Name!"})
    assert answer.json() == {
        "message": "Validation failed.",
        "validations": [
            {"field": "name", "detail": 'Validation failed for tag "template_name" with value: "Bad Name!"'}
        ],
    }
    organization = f"/organizations/{site.world.organization_id}"
    answer = await site.admin.post(
        f"{organization}/templates", json={"name": "rich2", "template_version_id": template["active_version_id"]}
    )
    assert (answer.status_code, answer.json()["message"]) == (
        400, f"Template version {template['active_version_id']} is already part of a template",
    )  # fmt: skip
    assert (await site.admin.get(f"{organization}/templates/rich")).json()["id"] == template["id"]
    assert (await site.admin.get("/organizations/default/templates/none")).status_code == 404
    assert [item["name"] for item in (await site.admin.get("/templates")).json()] == ["rich"]
    assert [item["name"] for item in (await site.admin.get(f"{path}/versions")).json()] == ["v1"]
    assert (await site.admin.get(f"{organization}/templates/rich/versions/v1")).status_code == 200
    assert (await site.admin.get(f"{organization}/templates/rich/versions/v1/previous")).status_code == 204
    answer = await site.admin.get("/templateversions/xyz")
    assert (answer.status_code, answer.json()) == (
        400, {"message": 'Invalid UUID "xyz".', "detail": "invalid UUID length: 3"},
    )  # fmt: skip
    examples = (await site.admin.get("/templates/examples")).json()
    assert {"local", "docker", "kubernetes"} <= {item["id"] for item in examples}

    await workspace_of(site, template)
    answer = await site.admin.delete(path)
    assert (answer.status_code, answer.json()) == (
        400, {"message": "All workspaces must be deleted before a template can be removed."},
    )  # fmt: skip


async def test_promotion_and_archive(site: Site) -> None:
    daemon = await site.world.daemon()
    template = await template_of(site)
    path = f"/templates/{template['id']}"
    organization = f"/organizations/{site.world.organization_id}"
    body = {
        "storage_method": "file", "file_id": str(site.world.file_id), "provisioner": "terraform",
        "template_id": template["id"], "name": "v2",
    }  # fmt: skip
    second = (await site.admin.post(f"{organization}/templateversions", json=body)).json()
    assert (await site.admin.post(f"{organization}/templateversions", json=body)).status_code == 409
    answer = await site.admin.patch(f"{path}/versions", json={"id": second["id"]})
    assert answer.status_code == 403
    assert (await site.admin.get(f"/templateversions/{second['id']}/rich-parameters")).status_code == 425
    refused = await site.admin.post("/users/me/workspaces", json={"template_version_id": second["id"], "name": "early"})
    assert refused.status_code == 406
    assert "Wait for it to complete importing" in refused.json()["message"]
    assert (await site.admin.get("/users/me/workspace/early")).status_code == 404
    assert (await site.admin.get(f"/templateversions/{second['id']}/resources")).json() == {
        "message": "Job hasn't completed!"
    }
    assert (await site.admin.patch(f"/templateversions/{second['id']}/cancel")).status_code == 200
    assert (await site.admin.patch(f"/templateversions/{second['id']}/cancel")).status_code == 400
    refused = await site.admin.post("/users/me/workspaces", json={"template_version_id": second["id"], "name": "late"})
    assert refused.status_code == 400

    third = (await site.admin.post(f"{organization}/templateversions", json=body | {"name": "v3"})).json()
    await daemon.import_version()
    assert (await site.admin.patch(f"{path}/versions", json={"id": third["id"]})).status_code == 200
    assert (await site.admin.get(path)).json()["active_version_id"] == third["id"]
    archived = (await site.admin.post(f"{path}/versions/archive", json={"all": True})).json()
    assert set(archived["archived_ids"]) == {second["id"], template["active_version_id"]}
    assert [item["name"] for item in (await site.admin.get(f"{path}/versions")).json()] == ["v3"]
    assert (await site.admin.post(f"/templateversions/{second['id']}/archive")).status_code == 400
    assert (await site.admin.post(f"/templateversions/{second['id']}/unarchive")).status_code == 200
    previous = await site.admin.get(f"{organization}/templates/rich/versions/v3/previous")
    assert previous.json()["name"] == "v2"
    assert (await site.admin.delete(path)).json() == {"message": "Template has been deleted!"}
    assert (await site.admin.get(path)).status_code == 404


async def test_parameters_are_evaluated(site: Site) -> None:
    template = await template_of(site)
    path = f"/templateversions/{template['active_version_id']}/dynamic-parameters"
    answer = await site.admin.post(f"{path}/evaluate", json={"id": 2, "inputs": {"cpu": "99", "region": "mars"}})
    cpu, region = answer.json()["parameters"]
    assert answer.json()["id"] == 0
    assert cpu["value"] == {"value": "99", "valid": True}
    assert cpu["validations"] == [
        {
            "validation_error": "", "validation_regex": None, "validation_min": 1, "validation_max": 8,
            "validation_monotonic": "increasing",
        }
    ]  # fmt: skip
    assert cpu["diagnostics"] == [
        {
            "severity": "error", "summary": "Invalid parameter value according to 'validation' block",
            "detail": "value 99 is more than the maximum 8", "extra": {"code": ""},
        }
    ]  # fmt: skip
    assert region["diagnostics"][0]["detail"] == 'the value "mars" must be defined as one of options'

    url = site.url.replace("http", "ws") + f"/api/v2{path}"
    async with connect(url, additional_headers={HEADER: site.admin_token}) as socket:
        with anyio.fail_after(20):
            assert json.loads(await socket.recv())["id"] == -1
            await socket.send(json.dumps({"id": 7, "inputs": {"cpu": "4"}}))
            answer_two = json.loads(await socket.recv())
    assert (answer_two["id"], answer_two["parameters"][0]["value"]["value"]) == (7, "4")


async def test_dry_run(site: Site) -> None:
    daemon = await site.world.daemon()
    template = await template_of(site)
    path = f"/templateversions/{template['active_version_id']}/dry-run"
    body = {"workspace_name": "dry", "rich_parameter_values": [{"name": "cpu", "value": "4"}]}
    answer = await site.admin.post(path, json=body)
    assert answer.status_code == 201
    job = await daemon.acquire()
    assert job.template_dry_run.metadata.workspace_name == "dry"
    assert [value.value for value in job.template_dry_run.rich_parameter_values] == ["4"]
    assert [value.value for value in job.template_dry_run.variable_values] == ["hello", "s3cret"]
    await daemon.log(job.job_id, "planned")
    found = pbd.CompletedJob.TemplateDryRun(resources=[pb.Resource(name="dev", type="x")])
    await daemon.complete(pbd.CompletedJob(job_id=job.job_id, template_dry_run=found))
    run = f"{path}/{answer.json()['id']}"
    assert (await site.admin.get(run)).json()["status"] == "succeeded"
    assert [item["name"] for item in (await site.admin.get(f"{run}/resources")).json()] == ["dev"]
    assert [item["output"] for item in (await site.admin.get(f"{run}/logs")).json()] == ["planned"]
    assert (await site.member.get(run)).status_code == 404
    assert (await site.admin.get(f"{run}/matched-provisioners")).json()["count"] == 1


async def test_a_template_change_reaches_its_workspaces(site: Site) -> None:
    template = await template_of(site)
    workspace = await workspace_of(site, template, ttl_ms=7200000)
    path, own = f"/templates/{template['id']}", f"/workspaces/{workspace['id']}"
    dormant = (await site.admin.put(f"{own}/dormant", json={"dormant": True})).json()
    assert dormant["deleting_at"] is None
    answer = await site.admin.patch(
        path,
        json={
            "time_til_dormant_autodelete_ms": 3600000,
            "update_workspace_last_used_at": True,
            "update_workspace_dormant_at": True,
            "allow_user_autostop": False,
            "default_ttl_ms": 60000,
        },
    )
    assert answer.status_code == 200, answer.text
    after = (await site.admin.get(own)).json()
    assert after["last_used_at"] > workspace["last_used_at"]
    assert after["dormant_at"] > dormant["dormant_at"]
    assert after["deleting_at"] > after["dormant_at"]
    assert after["ttl_ms"] == 60000
    assert (await site.admin.put(f"{own}/ttl", json={"ttl_ms": 120000})).status_code == 400


async def test_a_private_template_is_hidden(site: Site) -> None:
    template = await template_of(site)
    path = f"/templates/{template['id']}"
    assert (await site.member.get(path)).status_code == 200
    await site.admin.patch(path, json={"disable_everyone_group_access": True})
    assert (await site.member.get(path)).status_code == 404
    assert (await site.member.get("/templates")).json() == []
    answer = await site.member.post("/users/me/workspaces", json={"template_id": template["id"], "name": "x"})
    assert answer.status_code == 400
    await site.admin.patch(path, json={"disable_everyone_group_access": False})
    assert (await site.member.get(path)).status_code == 200


async def test_a_deprecated_template_makes_no_workspaces(site: Site) -> None:
    template = await template_of(site)
    await site.admin.patch(f"/templates/{template['id']}", json={"deprecation_message": "use the other one"})
    answer = await site.admin.post("/users/me/workspaces", json={"template_id": template["id"], "name": "x"})
    assert (answer.status_code, answer.json()["detail"]) == (400, "use the other one")
    assert [item["deprecated"] for item in (await site.admin.get("/templates?q=deprecated:true")).json()] == [True]
