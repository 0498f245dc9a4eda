"""Template versions: `/templateversions`, `/organizations/{organization}/templateversions`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import anyio
from litestar import Request, Router, WebSocket, get, patch, post, websocket
from litestar import Response as Answer
from litestar.exceptions import WebSocketDisconnect
from msgspec import json

from warren.api.convert import jobs as jobs_out
from warren.api.convert import templates as convert
from warren.api.convert import workspaces as workspaces_out
from warren.api.json import encode
from warren.api.params import path_uuid
from warren.api.routes import job_log_answers
from warren.api.routes.job_log_answers import LogAnswer
from warren.api.routes.refusals import HANDLERS, refusing
from warren.authz.policy import Actor
from warren.errors import NOT_JSON, Invalid, NotFound, Violation
from warren.sdk.types import templates as wire
from warren.sdk.types.base import Response, present
from warren.sdk.types.jobs import MatchedProvisioners, ProvisionerJob
from warren.sdk.types.workspaces import WorkspaceResource
from warren.services.jobs import NO_QUEUE, Jobs
from warren.services.lookups import Lookups
from warren.services.template_versions import NewDryRun, NewVersion, TemplateVersions

SOCKET_SECONDS = 30 * 60  # a form that is open for longer was forgotten
_VERSION = "/api/v2/templateversions/{version:str}"
_DRY_RUN = _VERSION + "/dry-run/{job:str}"
_NAMED = "/api/v2/organizations/{organization:str}/templates/{template:str}/versions/{name:str}"


@post("/api/v2/organizations/{organization:str}/templateversions", status_code=201)
async def create(
    organization: str,
    data: wire.CreateTemplateVersion,
    actor: Actor,
    template_versions: TemplateVersions,
    lookups: Lookups,
) -> wire.TemplateVersion:
    """Import a version from an uploaded file or a starter template."""
    organization_id = await lookups.organization(actor, organization)
    file_id = await _source(data, actor, template_versions)
    wanted = NewVersion(
        file_id=file_id,
        name=data.name,
        message=data.message,
        template_id=present(data.template_id),
        provisioner=data.provisioner,
        tags=data.tags or {},
        variables={value.name: value.value for value in data.user_variable_values or []},
    )
    return convert.version(await template_versions.create(actor, organization_id, wanted))


async def _source(data: wire.CreateTemplateVersion, actor: Actor, template_versions: TemplateVersions) -> UUID:
    file_id = present(data.file_id)
    if (file_id is None) == (not data.example_id):
        text = "exactly one of file_id and example_id must be given"
        raise Invalid("Validation failed.", violations=[Violation("file_id", text), Violation("example_id", text)])
    if file_id is not None:
        return file_id
    from warren import starter_templates

    example = next((found for found in starter_templates.examples() if found.id == data.example_id), None)
    if example is None:
        raise NotFound(
            "Example not found.", violations=[Violation("example_id", f"no starter template {data.example_id!r}")]
        )
    return await template_versions.store_example(actor, example.archive)


@get(_VERSION)
async def read(version: str, actor: Actor, template_versions: TemplateVersions) -> wire.TemplateVersion:
    """Read a version."""
    return convert.version(await template_versions.get(actor, path_uuid(version)))


@get(_NAMED)
async def read_by_names(
    organization: str,
    template: str,
    name: str,
    actor: Actor,
    template_versions: TemplateVersions,
    lookups: Lookups,
) -> wire.TemplateVersion:
    """Read a version by the names of its template and itself."""
    organization_id = await lookups.organization(actor, organization)
    return convert.version(await template_versions.get_by_names(actor, organization_id, template, name))


@get(_NAMED + "/previous")
async def read_previous(
    organization: str,
    template: str,
    name: str,
    actor: Actor,
    template_versions: TemplateVersions,
    lookups: Lookups,
) -> wire.TemplateVersion | Answer[None]:
    """Read the version before another one; 204 when that is the first."""
    organization_id = await lookups.organization(actor, organization)
    found = await template_versions.get_previous(actor, organization_id, template, name)
    return Answer(None, status_code=204) if found is None else convert.version(found)


@patch(_VERSION)
async def update(
    version: str, data: wire.UpdateTemplateVersion, actor: Actor, template_versions: TemplateVersions
) -> wire.TemplateVersion:
    """Rename a version, or change its message."""
    view = await template_versions.update(actor, path_uuid(version), name=data.name, message=data.message)
    return convert.version(view)


@patch(_VERSION + "/cancel")
async def cancel(version: str, actor: Actor, template_versions: TemplateVersions) -> Response:
    """Cancel the import of a version."""
    await template_versions.cancel(actor, path_uuid(version))
    return Response(message="Job has been marked as canceled.")


@post(_VERSION + "/archive", status_code=200)
async def archive(version: str, actor: Actor, template_versions: TemplateVersions) -> str:
    """Archive a version."""
    await template_versions.set_archived(actor, path_uuid(version), archived=True)
    return "template version archived"


@post(_VERSION + "/unarchive", status_code=200)
async def unarchive(version: str, actor: Actor, template_versions: TemplateVersions) -> str:
    """Restore a version."""
    await template_versions.set_archived(actor, path_uuid(version), archived=False)
    return "template version unarchived"


@get(_VERSION + "/rich-parameters")
async def list_parameters(
    version: str, actor: Actor, template_versions: TemplateVersions
) -> list[wire.TemplateVersionParameter]:
    """List the parameters of a version."""
    return [convert.parameter(found) for found in await template_versions.parameters(actor, path_uuid(version))]


@get(_VERSION + "/variables")
async def list_variables(
    version: str, actor: Actor, template_versions: TemplateVersions
) -> list[wire.TemplateVersionVariable]:
    """List the variables of a version."""
    return [convert.variable(found) for found in await template_versions.variables(actor, path_uuid(version))]


@get(_VERSION + "/presets")
async def list_presets(version: str, actor: Actor, template_versions: TemplateVersions) -> list[wire.Preset]:
    """List the presets of a version."""
    return [convert.preset(found) for found in await template_versions.presets(actor, path_uuid(version))]


@get(_VERSION + "/external-auth")
async def list_external_auth(
    version: str, actor: Actor, template_versions: TemplateVersions
) -> list[wire.TemplateVersionExternalAuth]:
    """List the third parties that a version needs its users to be signed in to."""
    return [
        wire.TemplateVersionExternalAuth(
            id=found.id,
            type="",
            display_name=found.id,
            display_icon="",
            authenticate_url="",
            authenticated=False,
            optional=found.optional,
        )
        for found in await template_versions.external_auth(actor, path_uuid(version))
    ]


@get(_VERSION + "/resources")
async def list_resources(version: str, actor: Actor, template_versions: TemplateVersions) -> list[WorkspaceResource]:
    """List what a version would make."""
    found = await template_versions.resources(actor, path_uuid(version))
    return [workspaces_out.resource(item) for item in found]


@get([_VERSION + "/parameters", _VERSION + "/schema"])
async def list_nothing(version: str, actor: Actor, template_versions: TemplateVersions) -> list[str]:
    """Answer clients that are too old to know better."""
    await template_versions.get(actor, path_uuid(version))
    return []


@get(_VERSION + "/logs")
async def logs(
    request: Request[Any, Any, Any], version: str, actor: Actor, template_versions: TemplateVersions, jobs: Jobs
) -> LogAnswer:
    """Read the log of a version's import."""
    return await job_log_answers.listed(request, jobs, await template_versions.job_id(actor, path_uuid(version)))


@websocket(_VERSION + "/logs")
async def follow_logs(
    socket: WebSocket[Any, Any, Any], version: str, actor: Actor, template_versions: TemplateVersions, jobs: Jobs
) -> None:
    """Follow the log of a version's import."""
    await job_log_answers.followed(socket, jobs, await template_versions.job_id(actor, path_uuid(version)))


# Dry runs -------------------------------------------------------------------------------------------------------------


@post(_VERSION + "/dry-run", status_code=201)
async def create_dry_run(
    version: str, data: wire.CreateDryRun, actor: Actor, template_versions: TemplateVersions
) -> ProvisionerJob:
    """Plan a version for some parameters."""
    values = {item.name: item.value for item in data.rich_parameter_values or []}
    view = await template_versions.dry_run(actor, path_uuid(version), NewDryRun(data.workspace_name, values))
    return jobs_out.job(view, NO_QUEUE)


@get(_DRY_RUN)
async def read_dry_run(version: str, job: str, actor: Actor, template_versions: TemplateVersions) -> ProvisionerJob:
    """Read the job of a dry run."""
    return jobs_out.job(*await template_versions.get_dry_run(actor, path_uuid(version), path_uuid(job)))


@get(_DRY_RUN + "/resources")
async def list_dry_run_resources(
    version: str, job: str, actor: Actor, template_versions: TemplateVersions
) -> list[WorkspaceResource]:
    """List what a dry run would make."""
    found = await template_versions.dry_run_resources(actor, path_uuid(version), path_uuid(job))
    return [workspaces_out.resource(item) for item in found]


@get(_DRY_RUN + "/matched-provisioners")
async def match_dry_run(
    version: str, job: str, actor: Actor, template_versions: TemplateVersions
) -> MatchedProvisioners:
    """Count the daemons that may run a dry run."""
    return jobs_out.matched(await template_versions.dry_run_matched(actor, path_uuid(version), path_uuid(job)))


@get(_DRY_RUN + "/logs")
async def dry_run_logs(
    request: Request[Any, Any, Any],
    version: str,
    job: str,
    actor: Actor,
    template_versions: TemplateVersions,
    jobs: Jobs,
) -> LogAnswer:
    """Read the log of a dry run."""
    view, _ = await template_versions.get_dry_run(actor, path_uuid(version), path_uuid(job))
    return await job_log_answers.listed(request, jobs, view.job.id)


@websocket(_DRY_RUN + "/logs")
async def follow_dry_run_logs(
    socket: WebSocket[Any, Any, Any],
    version: str,
    job: str,
    actor: Actor,
    template_versions: TemplateVersions,
    jobs: Jobs,
) -> None:
    """Follow the log of a dry run."""
    view, _ = await template_versions.get_dry_run(actor, path_uuid(version), path_uuid(job))
    await job_log_answers.followed(socket, jobs, view.job.id)


@patch(_DRY_RUN + "/cancel")
async def cancel_dry_run(version: str, job: str, actor: Actor, template_versions: TemplateVersions) -> Response:
    """Cancel a dry run."""
    await template_versions.cancel_dry_run(actor, path_uuid(version), path_uuid(job))
    return Response(message="Job has been marked as canceled.")


# Dynamic parameters ---------------------------------------------------------------------------------------------------


@post(_VERSION + "/dynamic-parameters/evaluate", status_code=200)
async def evaluate(
    version: str, data: wire.DynamicParametersRequest, actor: Actor, template_versions: TemplateVersions
) -> wire.DynamicParametersResponse:
    """Say what the parameters are for some inputs."""
    return convert.evaluation(0, await template_versions.evaluate(actor, path_uuid(version), data.inputs or {}))


@websocket(_VERSION + "/dynamic-parameters")
async def dynamic_parameters(
    socket: WebSocket[Any, Any, Any], version: str, actor: Actor, template_versions: TemplateVersions
) -> None:
    """Say what the parameters are for each set of inputs that the client sends."""
    version_id = path_uuid(version)
    with refusing():
        initial = await template_versions.evaluate(actor, version_id, {})
    await socket.accept()
    await socket.send_text(encode(convert.evaluation(-1, initial)).decode())
    decoder = json.Decoder(wire.DynamicParametersRequest)
    try:
        with anyio.move_on_after(SOCKET_SECONDS):
            while True:
                asked = decoder.decode(await socket.receive_text())
                found = await template_versions.evaluate(actor, version_id, asked.inputs or {})
                await socket.send_text(encode(convert.evaluation(asked.id, found)).decode())
    except WebSocketDisconnect:
        return
    except NOT_JSON:
        await socket.close(code=1003, reason="expected a JSON request")
        return
    await socket.close(code=1000)


routes = [
    Router(
        "/",
        route_handlers=[
            archive,
            cancel,
            cancel_dry_run,
            create,
            create_dry_run,
            dry_run_logs,
            dynamic_parameters,
            evaluate,
            follow_dry_run_logs,
            follow_logs,
            list_dry_run_resources,
            list_external_auth,
            list_nothing,
            list_parameters,
            list_presets,
            list_resources,
            list_variables,
            logs,
            match_dry_run,
            read,
            read_by_names,
            read_dry_run,
            read_previous,
            unarchive,
            update,
        ],
        exception_handlers=HANDLERS,
    )
]
