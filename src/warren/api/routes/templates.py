"""Templates: `/templates`, `/organizations/{organization}/templates`."""

from __future__ import annotations

from typing import Any

from litestar import Request, delete, get, patch, post

from warren.api.convert import templates as convert
from warren.api.params import Query, path_uuid
from warren.authz.policy import Actor
from warren.sdk.types import templates as wire
from warren.sdk.types.base import Response
from warren.services.lookups import Lookups
from warren.services.template_versions import TemplateVersions
from warren.services.templates import Templates


@get("/api/v2/templates")
async def list_templates(request: Request[Any, Any, Any], actor: Actor, templates: Templates) -> list[wire.Template]:
    """List the templates that the caller may see."""
    found = await templates.list(actor, request.query_params.get("q", ""))
    return [convert.template(view) for view in found]


@get("/api/v2/organizations/{organization:str}/templates")
async def list_of_organization(
    request: Request[Any, Any, Any], organization: str, actor: Actor, templates: Templates, lookups: Lookups
) -> list[wire.Template]:
    """List the templates of an organization."""
    organization_id = await lookups.organization(actor, organization)
    found = await templates.list(actor, request.query_params.get("q", ""), organization_id)
    return [convert.template(view) for view in found]


@post("/api/v2/organizations/{organization:str}/templates", status_code=201)
async def create(
    organization: str, data: wire.CreateTemplate, actor: Actor, templates: Templates, lookups: Lookups
) -> wire.Template:
    """Create a template from a version."""
    organization_id = await lookups.organization(actor, organization)
    return convert.template(await templates.create(actor, organization_id, convert.new_template(data)))


@get("/api/v2/organizations/{organization:str}/templates/{name:str}")
async def get_by_name(
    organization: str, name: str, actor: Actor, templates: Templates, lookups: Lookups
) -> wire.Template:
    """Read a template by its name."""
    organization_id = await lookups.organization(actor, organization)
    return convert.template(await templates.get_by_name(actor, organization_id, name))


@get("/api/v2/templates/{template:str}")
async def read(template: str, actor: Actor, templates: Templates) -> wire.Template:
    """Read a template."""
    return convert.template(await templates.get(actor, path_uuid(template)))


@patch("/api/v2/templates/{template:str}")
async def update(template: str, data: wire.UpdateTemplate, actor: Actor, templates: Templates) -> wire.Template:
    """Change a template's settings."""
    return convert.template(await templates.update(actor, path_uuid(template), convert.changes(data)))


@delete("/api/v2/templates/{template:str}", status_code=200)
async def remove(template: str, actor: Actor, templates: Templates) -> Response:
    """Delete a template that no workspace uses."""
    await templates.delete(actor, path_uuid(template))
    return Response(message="Template has been deleted!")


@get("/api/v2/templates/{template:str}/versions")
async def list_versions(
    request: Request[Any, Any, Any], template: str, actor: Actor, template_versions: TemplateVersions
) -> list[wire.TemplateVersion]:
    """List the versions of a template."""
    query = Query(request.query_params)
    page, archived = query.page(), query.flag("include_archived")
    query.finish()
    found = await template_versions.list(
        actor,
        path_uuid(template),
        include_archived=archived,
        after=page.after_id,
        limit=page.limit,
        offset=page.offset,
    )
    return [convert.version(view) for view in found]


@patch("/api/v2/templates/{template:str}/versions")
async def promote(template: str, data: wire.UpdateActiveVersion, actor: Actor, templates: Templates) -> Response:
    """Make a version the one that new workspaces take."""
    await templates.promote(actor, path_uuid(template), data.id)
    return Response(message="Updated the active template version!")


@post("/api/v2/templates/{template:str}/versions/archive", status_code=200)
async def archive(
    template: str, data: wire.ArchiveVersions, actor: Actor, template_versions: TemplateVersions
) -> wire.ArchivedVersions:
    """Archive versions that nothing uses."""
    template_id = path_uuid(template)
    archived = await template_versions.archive_unused(actor, template_id, all_unused=data.all)
    return wire.ArchivedVersions(template_id=template_id, archived_ids=list(archived))


@get("/api/v2/templates/{template:str}/versions/{name:str}")
async def read_version(
    template: str, name: str, actor: Actor, template_versions: TemplateVersions
) -> wire.TemplateVersion:
    """Read a version of a template by its name."""
    return convert.version(await template_versions.get_by_name(actor, path_uuid(template), name))


@get("/api/v2/templates/examples")
async def examples(actor: Actor) -> list[wire.TemplateExample]:
    """List the starter templates that come with the server."""
    del actor
    return _examples()


@get("/api/v2/organizations/{organization:str}/templates/examples")
async def examples_of_organization(organization: str, actor: Actor, lookups: Lookups) -> list[wire.TemplateExample]:
    """List the starter templates that come with the server."""
    await lookups.organization(actor, organization)
    return _examples()


def _examples() -> list[wire.TemplateExample]:
    from warren import starter_templates

    return [
        wire.TemplateExample(
            id=found.id,
            url="",  # it comes with the server: there is no place to read it elsewhere
            name=found.name,
            description=found.description,
            icon=found.icon,
            tags=list(found.tags),
            markdown=found.markdown,
        )
        for found in starter_templates.examples()
    ]


routes = [
    archive,
    create,
    examples,
    examples_of_organization,
    get_by_name,
    list_of_organization,
    list_templates,
    list_versions,
    promote,
    read,
    read_version,
    remove,
    update,
]
