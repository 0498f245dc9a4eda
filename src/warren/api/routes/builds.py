"""Workspace builds: `/workspacebuilds`."""

from __future__ import annotations

from typing import Any

from litestar import Request, Router, WebSocket, get, patch, put, websocket
from litestar import Response as Answer

from warren.api.convert import workspaces as convert
from warren.api.json import MEDIA_TYPE
from warren.api.params import path_uuid
from warren.api.routes import job_log_answers
from warren.api.routes.job_log_answers import LogAnswer
from warren.api.routes.refusals import HANDLERS
from warren.authz.policy import Actor
from warren.sdk.types import workspaces as wire
from warren.sdk.types.base import Response
from warren.services.builds import Builds
from warren.services.jobs import Jobs

_BUILD = "/api/v2/workspacebuilds/{build:str}"


@get(_BUILD)
async def read(build: str, actor: Actor, builds: Builds) -> wire.WorkspaceBuild:
    """Read a build."""
    return convert.build_of(await builds.get(actor, path_uuid(build)))


@patch(_BUILD + "/cancel")
async def cancel(request: Request[Any, Any, Any], build: str, actor: Actor, builds: Builds) -> Response:
    """Cancel a build."""
    await builds.cancel(actor, path_uuid(build), expected=request.query_params.get("expect_status", ""))
    return Response(message="Job has been marked as canceled...")


@get(_BUILD + "/logs")
async def logs(request: Request[Any, Any, Any], build: str, actor: Actor, builds: Builds, jobs: Jobs) -> LogAnswer:
    """Read the log of a build."""
    return await job_log_answers.listed(request, jobs, await builds.job_id(actor, path_uuid(build)))


@websocket(_BUILD + "/logs")
async def follow_logs(socket: WebSocket[Any, Any, Any], build: str, actor: Actor, builds: Builds, jobs: Jobs) -> None:
    """Follow the log of a build."""
    await job_log_answers.followed(socket, jobs, await builds.job_id(actor, path_uuid(build)))


@get(_BUILD + "/parameters")
async def list_parameters(build: str, actor: Actor, builds: Builds) -> list[wire.BuildParameter]:
    """List the parameter values of a build."""
    return convert.parameters(await builds.parameters(actor, path_uuid(build)))


@get(_BUILD + "/resources")
async def list_resources(build: str, actor: Actor, builds: Builds) -> list[wire.WorkspaceResource]:
    """List what a build made."""
    return [convert.resource(found) for found in await builds.resources(actor, path_uuid(build))]


@get(_BUILD + "/state")
async def read_state(build: str, actor: Actor, builds: Builds) -> Answer[bytes]:
    """Read the Terraform state of a build."""
    return Answer(await builds.state(actor, path_uuid(build)), media_type=MEDIA_TYPE)


@put(_BUILD + "/state", status_code=204)
async def write_state(build: str, data: wire.UpdateBuildState, actor: Actor, builds: Builds) -> None:
    """Replace the Terraform state of a build."""
    await builds.set_state(actor, path_uuid(build), data.state)


@get(_BUILD + "/timings")
async def timings(build: str, actor: Actor, builds: Builds) -> wire.BuildTimings:
    """Tell where the time of a build went."""
    return convert.build_timings(await builds.timings(actor, path_uuid(build)))


routes = [
    Router(
        "/",
        route_handlers=[
            cancel,
            follow_logs,
            list_parameters,
            list_resources,
            logs,
            read,
            read_state,
            timings,
            write_state,
        ],
        exception_handlers=HANDLERS,
    )
]
