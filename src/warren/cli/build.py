"""Queue a workspace build and follow it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from warren.cli import job_log
from warren.errors import Conflict

if TYPE_CHECKING:
    from warren.cli.context import Context
    from warren.sdk.types.workspaces import Workspace, WorkspaceBuild


async def queue(
    context: Context,
    workspace: Workspace,
    transition: str,
    *,
    values: Mapping[str, str] | None = None,
    version_id: UUID | None = None,
    orphan: bool = False,
    reason: str = "cli",
    state: bytes | None = None,
) -> WorkspaceBuild:
    """Queue a build: `start`, `stop` or `delete`.

    Raises:
        Conflict: another build of the workspace is not over, or it is in no state for this one.
    """
    from warren.sdk.types.base import NIL_UUID
    from warren.sdk.types.templates import BuildParameter
    from warren.sdk.types.workspaces import CreateWorkspaceBuild

    request = CreateWorkspaceBuild(
        transition=transition,
        template_version_id=version_id or NIL_UUID,
        rich_parameter_values=[BuildParameter(name=name, value=value) for name, value in (values or {}).items()],
        orphan=orphan,
        state=state,
        reason=reason if transition != "delete" else "",
    )
    try:
        return await context.client.workspaces.build(workspace.id, request)
    except Conflict as error:
        error.hint = error.hint or f"warren logs --follow {workspace.name} shows the build that runs; wait for its end"
        raise


async def follow(context: Context, build: WorkspaceBuild) -> None:
    """Print a build's log until it ends.

    Raises:
        JobFailed: it did not succeed.
    """
    job = job_log.of_build(context.client, build)
    try:
        await job_log.follow(context.terminal, job, verbose=context.options.verbose)
    except job_log.JobFailed as error:
        error.hint = after_failure(build.transition, build.workspace_name)
        raise


def after_failure(transition: str, name: str) -> str:
    """Say what to do about a build that failed; what it made until then is in the workspace's state."""
    match transition:
        case "delete":
            return f"what is left is kept: warren delete {name} tries again, with --orphan it forgets it"
        case "stop":
            return f"what is left is kept: warren stop {name} tries again"
        case _:
            return f"what was made is kept: warren start {name} tries again, warren delete {name} removes it"
