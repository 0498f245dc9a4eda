"""Get a workspace to where one can work in it: started, its agent connected, its start scripts over."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio

from warren.cli import build, parameters, target
from warren.cli.ui import GREY
from warren.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    from warren.cli.context import Context
    from warren.sdk.types.agents import AgentLog, WorkspaceAgent
    from warren.sdk.types.workspaces import Workspace

SHUTTING_DOWN = frozenset({"shutting_down", "shutdown_timeout", "shutdown_error", "off"})
STARTING = frozenset({"created", "starting"})
POLLS = ((60, 0.5), (120, 1.0), (300, 2.0), (600, 4.0), (float("inf"), 8.0))
"""How often to look, by how long we have waited: soon at first, rarely when it takes minutes."""


async def started_workspace(
    context: Context, wanted: target.Target, *, autostart: bool, reason: str
) -> tuple[Workspace, WorkspaceAgent]:
    """Find a workspace and its agent; start the workspace if it is stopped and `autostart` is allowed.

    Raises:
        Invalid: it does not run and may not be started.
    """
    workspace = await context.workspace(wanted.path)
    latest = workspace.latest_build
    if latest.job.status in {"pending", "running"}:
        await build.follow(context, latest)
        workspace = await context.client.workspaces.get(workspace.id)
        latest = workspace.latest_build
    if latest.transition == "start" and latest.status == "running":
        return workspace, target.pick_agent(workspace, wanted.agent)
    _check_startable(workspace, autostart=autostart)
    await _start(context, workspace, reason)
    workspace = await context.client.workspaces.get(workspace.id)
    return workspace, target.pick_agent(workspace, wanted.agent)


def _check_startable(workspace: Workspace, *, autostart: bool) -> None:
    latest = workspace.latest_build
    if latest.status == "deleted" or latest.transition == "delete":
        raise NotFound(f"workspace `{workspace.name}` is deleted")
    hint = f"warren start {workspace.name}"
    if latest.job.status == "failed":
        cause = f"workspace `{workspace.name}` is not running: its last build failed"
        raise Invalid(cause, detail=latest.job.error, hint=hint)
    if not autostart:
        raise Invalid(f"workspace `{workspace.name}` is {latest.status} and autostart is disabled", hint=hint)
    if latest.status != "stopped":
        raise Invalid(f"workspace `{workspace.name}` must be started; it is {latest.status}", hint=hint)


async def _start(context: Context, workspace: Workspace, reason: str) -> None:
    """Start a stopped workspace with its values of before."""
    context.terminal.say(f"Workspace was stopped, starting {context.terminal.keyword(workspace.name)} to allow access.")
    version_id = workspace.latest_build.template_version_id
    if workspace.automatic_updates == "always" or workspace.template_require_active_version:
        version_id = workspace.template_active_version_id
    try:
        queued = await build.queue(context, workspace, "start", version_id=version_id, reason=reason)
    except Forbidden:
        version_id = workspace.template_active_version_id
        asked = await context.client.templates.rich_parameters(version_id)
        before = await context.client.builds.parameters(workspace.latest_build.id)
        values = parameters.resolve(
            context.terminal, asked, parameters.Wanted(), previous={value.name: value.value for value in before}
        )
        queued = await build.queue(context, workspace, "start", version_id=version_id, values=values, reason=reason)
    except Conflict:  # somebody else started it at the same moment: theirs will do
        queued = (await context.client.workspaces.get(workspace.id)).latest_build
    await build.follow(context, queued)


async def ready_agent(context: Context, agent: WorkspaceAgent, *, wait: str) -> WorkspaceAgent:
    """Wait until the agent is connected and, as `wait` says (`yes`, `no`, `auto`), its start scripts are over.

    Raises:
        Unavailable: the agent is shutting down.
    """
    waiter = _Waiter(context, agent)
    for_scripts = wait == "yes" or (wait == "auto" and any(script.start_blocks_login for script in agent.scripts))
    await waiter.connected()
    await waiter.scripts(wait=for_scripts)
    return waiter.agent


class _Waiter:
    """Look at one agent again and again, saying what changed."""

    def __init__(self, context: Context, agent: WorkspaceAgent) -> None:
        self._context = context
        self.agent = agent
        self._began = anyio.current_time()
        self._waited = False
        self._said: set[str] = set()

    async def connected(self) -> None:
        """Wait until the agent is connected."""
        while self.agent.status != "connected":
            if self.agent.lifecycle_state in SHUTTING_DOWN:
                raise Unavailable("the agent is shutting down", hint="wait for the workspace to stop, then start it")
            self._say_status()
            await self._look()

    async def scripts(self, *, wait: bool) -> None:
        """Wait until start scripts are over, showing their log; or say that they still run."""
        if self.agent.lifecycle_state in SHUTTING_DOWN:
            raise Unavailable("the agent is shutting down", hint="wait for the workspace to stop, then start it")
        if self.agent.lifecycle_state in STARTING and not wait:
            self._say("running", "The workspace's start scripts still run; it may not be complete yet.")
        elif self.agent.lifecycle_state in STARTING:
            self._say("scripts", "Running workspace agent start scripts")
            await self._follow_scripts()
        match self.agent.lifecycle_state:
            case "start_timeout":
                self._say("late", "A start script takes longer than it should; the workspace may not be complete.")
            case "start_error" if wait or self._waited:
                self._say("failed", "A start script failed; the workspace may not be complete.")
            case _:
                pass

    async def _follow_scripts(self) -> None:
        last = 0
        async with anyio.create_task_group() as tasks:

            async def follow() -> None:
                nonlocal last
                async with aclosing(self._context.client.agents.follow_logs(self.agent.id)) as batches:
                    async for batch in batches:
                        last = self._show(batch, last)

            tasks.start_soon(follow)
            while self.agent.lifecycle_state in STARTING:
                await self._look()
            tasks.cancel_scope.cancel()
        self._show(await self._context.client.agents.logs(self.agent.id, after=last), last)

    def _show(self, batch: list[AgentLog], last: int) -> int:
        terminal = self._context.terminal
        sources = {source.id: source.display_name for source in self.agent.log_sources}
        for line in batch:
            name = sources.get(line.source_id, "")
            terminal.say(terminal.style(f"{name}: {line.output}" if name else line.output, GREY))
            last = line.id
        return last

    def _say_status(self) -> None:
        match self.agent.status:
            case "timeout":
                url = self.agent.troubleshooting_url
                self._say(
                    "timeout", "The agent is taking longer than expected to connect." + (f" See {url}" if url else "")
                )
            case "disconnected":
                self._say(
                    "lost",
                    "The workspace agent lost connection; waiting for it to come back."
                    " (Ctrl-C gives up; `warren restart` of the workspace starts a new one.)",
                )
            case _:
                self._say("connecting", "Waiting for the workspace agent to connect")

    def _say(self, key: str, text: str) -> None:
        if key not in self._said:
            self._said.add(key)
            self._context.terminal.say(text)

    async def _look(self) -> None:
        self._waited = True
        waited = anyio.current_time() - self._began
        await anyio.sleep(next(pause for limit, pause in POLLS if waited < limit))
        self.agent = await self._context.client.agents.get(self.agent.id)
