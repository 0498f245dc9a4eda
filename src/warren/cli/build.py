"""Queue a workspace build and follow it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from warren.cli import job_log

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
    """Queue a build: `start`, `stop` or `delete`."""
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
    return await context.client.workspaces.build(workspace.id, request)


async def follow(context: Context, build: WorkspaceBuild) -> None:
    """Print a build's log until it ends.

    Raises:
        JobFailed: it did not succeed.
    """
    job = job_log.of_build(context.client, build)
    await job_log.follow(context.terminal, job, verbose=context.options.verbose)
