"""Workspaces: `/workspaces`, `/users/{user}/workspaces`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Any
from uuid import UUID

from litestar import Request, Router, WebSocket, delete, get, patch, post, put, websocket
from litestar import Response as Answer

from warren.api.convert import workspaces as convert
from warren.api.json import MEDIA_TYPE
from warren.api.params import Query, path_uuid
from warren.api.routes.refusals import HANDLERS
from warren.api.streams import EventStream, send_events
from warren.api.workspace_pages import WorkspacePages
from warren.authz.policy import Actor
from warren.domain.build import Transition
from warren.errors import Invalid, Violation
from warren.sdk.types import workspaces as wire
from warren.sdk.types.base import Response, present
from warren.services.build_queue import FollowUp, NewBuild
from warren.services.builds import Builds
from warren.services.lookups import Lookups
from warren.services.workspaces import NewWorkspace, Workspaces

_WORKSPACE = "/api/v2/workspaces/{workspace:str}"
_NAMED = "/api/v2/users/{user:str}/workspace/{name:str}"


@get("/api/v2/workspaces")
async def list_workspaces(
    request: Request[Any, Any, Any], actor: Actor, workspace_pages: WorkspacePages
) -> Answer[bytes]:
    """List the workspaces that the caller may see."""
    query = Query(request.query_params)
    page = query.page()
    query.finish()
    body = await workspace_pages.encode(actor, query.text("q"), limit=page.limit, offset=page.offset)
    return Answer(body, media_type=MEDIA_TYPE)


@post(
    ["/api/v2/users/{user:str}/workspaces", "/api/v2/organizations/{organization:str}/members/{user:str}/workspaces"],
    status_code=201,
)
async def create(
    user: str, data: wire.CreateWorkspace, actor: Actor, workspaces: Workspaces, lookups: Lookups
) -> wire.Workspace:
    """Create a workspace and queue its first start."""
    wanted = NewWorkspace(
        name=data.name,
        template_id=present(data.template_id),
        template_version_id=present(data.template_version_id),
        autostart_schedule=data.autostart_schedule,
        ttl_ms=data.ttl_ms,
        automatic_updates=data.automatic_updates,
        parameters=_values(data.rich_parameter_values),
        preset_id=present(data.template_version_preset_id),
    )
    return convert.workspace(await workspaces.create(actor, await lookups.owner(actor, user), wanted))


def _values(given: list[wire.BuildParameter] | None) -> dict[str, str]:
    return {item.name: item.value for item in given or []}


@get(_NAMED)
async def read_by_name(
    request: Request[Any, Any, Any],
    user: str,
    name: str,
    actor: Actor,
    workspaces: Workspaces,
    lookups: Lookups,
) -> wire.Workspace:
    """Read a workspace by its owner and name."""
    query = Query(request.query_params)
    include_deleted = query.flag("include_deleted")
    query.finish()
    owner_id = await lookups.owner(actor, user)
    return convert.workspace(await workspaces.get_by_name(actor, owner_id, name, include_deleted=include_deleted))


@get(_NAMED + "/builds/{number:str}")
async def read_build(
    user: str, name: str, number: str, actor: Actor, builds: Builds, lookups: Lookups
) -> wire.WorkspaceBuild:
    """Read a build by its number."""
    try:
        wanted = int(number)
    except ValueError as error:
        detail = f'strconv.ParseInt: parsing "{number}": invalid syntax'
        raise Invalid("Failed to parse build number as integer.", detail=detail) from error
    owner_id = await lookups.owner(actor, user)
    return convert.build_of(await builds.get_of_number(actor, owner_id, name, wanted))


@get(_WORKSPACE)
async def read(request: Request[Any, Any, Any], workspace: str, actor: Actor, workspaces: Workspaces) -> wire.Workspace:
    """Read a workspace."""
    workspace_id = path_uuid(workspace)
    query = Query(request.query_params)
    include_deleted = query.flag("include_deleted")
    query.finish()
    return convert.workspace(await workspaces.get(actor, workspace_id, include_deleted=include_deleted))


@patch(_WORKSPACE, status_code=204)
async def rename(workspace: str, data: wire.UpdateWorkspace, actor: Actor, workspaces: Workspaces) -> None:
    """Give a workspace another name."""
    await workspaces.rename(actor, path_uuid(workspace), data.name)


@get(_WORKSPACE + "/builds")
async def list_builds(
    request: Request[Any, Any, Any], workspace: str, actor: Actor, builds: Builds
) -> list[wire.WorkspaceBuild]:
    """List the builds of a workspace, newest first."""
    query = Query(request.query_params)
    page = query.page()
    query.finish()
    found = await builds.list(
        actor,
        path_uuid(workspace),
        since=_since(query.text("since")),
        after=page.after_id,
        limit=page.limit,
        offset=page.offset,
    )
    return [convert.build_of(detail) for detail in found]


def _since(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError as error:
        raise Invalid("Query parameter 'since' must be a valid RFC3339 timestamp.", detail=str(error)) from error
    if moment is not None and moment.tzinfo is None:
        raise Invalid("Query parameter 'since' must be a valid RFC3339 timestamp.", detail="no time zone")
    return moment


@post(_WORKSPACE + "/builds", status_code=201)
async def create_build(
    workspace: str, data: wire.CreateWorkspaceBuild, actor: Actor, builds: Builds
) -> wire.WorkspaceBuild:
    """Start, stop or delete a workspace."""
    wanted = NewBuild(
        transition=_transition(data.transition, "transition"),
        template_version_id=present(data.template_version_id),
        preset_id=present(data.template_version_preset_id),
        parameters=_values(data.rich_parameter_values),
        state=data.state,
        orphan=data.orphan,
        log_level=data.log_level,
        reason=data.reason,
        follow_up=_follow_up(data.on_success),
    )
    return convert.build_of(await builds.create(actor, path_uuid(workspace), wanted))


def _follow_up(wanted: wire.FollowUpBuild | None) -> FollowUp | None:
    if wanted is None:
        return None
    return FollowUp(
        transition=_transition(wanted.transition, "on_success.transition"),
        template_version_id=present(wanted.template_version_id),
        preset_id=present(wanted.template_version_preset_id),
        parameters=_values(wanted.rich_parameter_values),
    )


def _transition(text: str, field: str) -> Transition:
    try:
        return Transition(text)
    except ValueError as error:
        detail = f'Validation failed for tag "oneof" with value: "{text}"'
        raise Invalid("Validation failed.", violations=[Violation(field, detail)]) from error


@put(_WORKSPACE + "/autostart", status_code=204)
async def set_autostart(workspace: str, data: wire.UpdateAutostart, actor: Actor, workspaces: Workspaces) -> None:
    """Set or clear the schedule by which a workspace starts."""
    await workspaces.set_autostart(actor, path_uuid(workspace), data.schedule)


@put(_WORKSPACE + "/ttl", status_code=204)
async def set_ttl(workspace: str, data: wire.UpdateTTL, actor: Actor, workspaces: Workspaces) -> None:
    """Set how long a workspace runs."""
    await workspaces.set_ttl(actor, path_uuid(workspace), data.ttl_ms)


@put(_WORKSPACE + "/extend")
async def extend(workspace: str, data: wire.ExtendWorkspace, actor: Actor, workspaces: Workspaces) -> Response:
    """Move the moment at which a workspace stops."""
    deadline = await workspaces.extend(actor, path_uuid(workspace), data.deadline)
    return Response(message=f"Deadline updated to {deadline.isoformat()}.")


@put(_WORKSPACE + "/dormant")
async def set_dormant(
    workspace: str, data: wire.UpdateDormancy, actor: Actor, workspaces: Workspaces
) -> wire.Workspace | Answer[None]:
    """Put a workspace to sleep, or wake it; 304 when it is as wanted."""
    found = await workspaces.set_dormant(actor, path_uuid(workspace), dormant=data.dormant)
    return Answer(None, status_code=304) if found is None else convert.workspace(found)


@put(_WORKSPACE + "/autoupdates", status_code=204)
async def set_automatic_updates(
    workspace: str, data: wire.UpdateAutomaticUpdates, actor: Actor, workspaces: Workspaces
) -> None:
    """Choose whether a start takes the newest template version."""
    if not data.automatic_updates:
        text = "Automatic updates must be one of [always never]"
        raise Invalid("Invalid request", violations=[Violation("automatic_updates", text)])
    await workspaces.set_automatic_updates(actor, path_uuid(workspace), data.automatic_updates)


@put(_WORKSPACE + "/favorite", status_code=204)
async def set_favorite(workspace: str, actor: Actor, workspaces: Workspaces) -> None:
    """Mark a workspace."""
    await workspaces.set_favorite(actor, path_uuid(workspace), favorite=True)


@delete(_WORKSPACE + "/favorite", status_code=204)
async def unset_favorite(workspace: str, actor: Actor, workspaces: Workspaces) -> None:
    """Unmark a workspace."""
    await workspaces.set_favorite(actor, path_uuid(workspace), favorite=False)


@post(_WORKSPACE + "/usage", status_code=204)
async def note_use(
    workspace: str, actor: Actor, workspaces: Workspaces, data: wire.WorkspaceUsage | None = None
) -> None:
    """Note that a workspace is in use."""
    if data is not None and (present(data.agent_id) is None) != (not data.app_name):
        field = "agent_id" if data.app_name else "app_name"
        violation = Violation(field, "must be set when agent_id or app_name is")
        raise Invalid("Invalid request.", violations=[violation])
    await workspaces.note_use(actor, path_uuid(workspace))


@get(_WORKSPACE + "/resolve-autostart")
async def resolve_autostart(workspace: str, actor: Actor, workspaces: Workspaces) -> wire.ResolveAutostart:
    """Say whether an automatic start would need answers from the user."""
    return wire.ResolveAutostart(parameter_mismatch=await workspaces.needs_answers(actor, path_uuid(workspace)))


@get(_WORKSPACE + "/timings")
async def timings(workspace: str, actor: Actor, workspaces: Workspaces) -> wire.BuildTimings:
    """Tell where the time of the latest build went."""
    return convert.build_timings(await workspaces.timings(actor, path_uuid(workspace)))


@get(_WORKSPACE + "/port-share")
async def list_port_shares(workspace: str, actor: Actor, workspaces: Workspaces) -> dict[str, list[str]]:
    """List the ports that are shared: none can be yet."""
    await workspaces.get(actor, path_uuid(workspace))
    return {"shares": []}


@get(_WORKSPACE + "/watch")
async def watch(workspace: str, actor: Actor, workspaces: Workspaces) -> EventStream:
    """Follow a workspace as server-sent events."""
    workspace_id = path_uuid(workspace)
    await workspaces.get(actor, workspace_id, include_deleted=True)
    return EventStream(_watched(actor, workspaces, workspace_id))


@websocket(_WORKSPACE + "/watch-ws")
async def watch_socket(socket: WebSocket[Any, Any, Any], workspace: str, actor: Actor, workspaces: Workspaces) -> None:
    """Follow a workspace on a WebSocket."""
    workspace_id = path_uuid(workspace)
    await workspaces.get(actor, workspace_id, include_deleted=True)
    await send_events(socket, _watched(actor, workspaces, workspace_id))


async def _watched(actor: Actor, workspaces: Workspaces, workspace_id: UUID) -> AsyncGenerator[wire.Workspace]:
    async with aclosing(workspaces.watch(actor, workspace_id)) as found:
        async for detail in found:
            yield convert.workspace(detail)


routes = [
    Router(
        "/",
        route_handlers=[
            create,
            create_build,
            extend,
            list_builds,
            list_port_shares,
            list_workspaces,
            note_use,
            read,
            read_build,
            read_by_name,
            rename,
            resolve_autostart,
            set_automatic_updates,
            set_autostart,
            set_dormant,
            set_favorite,
            set_ttl,
            timings,
            unset_favorite,
            watch,
            watch_socket,
        ],
        exception_handlers=HANDLERS,
    )
]
