"""Messages about sub-agents to and from values; the only place that knows both."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from warren.domain.sub_agent import AppProblem, NewApp, NewSubAgent
from warren.errors import Invalid
from warren.rpc._pb import agent_pb2 as pb

_DISPLAY_APPS = {
    pb.CreateSubAgentRequest.VSCODE: "vscode",
    pb.CreateSubAgentRequest.VSCODE_INSIDERS: "vscode_insiders",
    pb.CreateSubAgentRequest.WEB_TERMINAL: "web_terminal",
    pb.CreateSubAgentRequest.SSH_HELPER: "ssh_helper",
    pb.CreateSubAgentRequest.PORT_FORWARDING_HELPER: "port_forwarding_helper",
}
_LEVELS = {
    pb.CreateSubAgentRequest.App.OWNER: "owner",
    pb.CreateSubAgentRequest.App.AUTHENTICATED: "authenticated",
    pb.CreateSubAgentRequest.App.PUBLIC: "public",
    pb.CreateSubAgentRequest.App.ORGANIZATION: "organization",
}
_OPEN_IN = {
    pb.CreateSubAgentRequest.App.SLIM_WINDOW: "slim-window",
    pb.CreateSubAgentRequest.App.TAB: "tab",
}


class _SubAgent(Protocol):
    @property
    def id(self) -> UUID: ...
    @property
    def name(self) -> str: ...
    @property
    def auth_token(self) -> UUID: ...


def new_from_message(message: pb.CreateSubAgentRequest) -> NewSubAgent:
    """Read a sub-agent that is asked for.

    Raises:
        Invalid: a display app is unknown.
    """
    unknown = [number for number in message.display_apps if number not in _DISPLAY_APPS]
    if unknown:
        raise Invalid(f"unknown display app {unknown[0]}")
    return NewSubAgent(
        name=message.name,
        directory=message.directory,
        architecture=message.architecture,
        operating_system=message.operating_system,
        display_apps=[_DISPLAY_APPS[number] for number in message.display_apps],
        apps=[_app(app) for app in message.apps],
    )


def _app(message: pb.CreateSubAgentRequest.App) -> NewApp:
    return NewApp(
        slug=message.slug,
        display_name=message.display_name,
        command=message.command,
        url=message.url,
        icon=message.icon,
        group=message.group,
        external=message.external,
        subdomain=message.subdomain,
        hidden=message.hidden,
        open_in=_OPEN_IN.get(message.open_in, "slim-window"),
        order=message.order,
        sharing_level=_LEVELS.get(message.share, "owner"),
        healthcheck_url=message.healthcheck.url,
        healthcheck_interval=message.healthcheck.interval,
        healthcheck_threshold=message.healthcheck.threshold,
    )


def sub_agent_to_message(found: _SubAgent) -> pb.SubAgent:
    """Write a sub-agent."""
    return pb.SubAgent(id=found.id.bytes, name=found.name, auth_token=found.auth_token.bytes)


def problem_to_message(problem: AppProblem) -> pb.CreateSubAgentResponse.AppCreationError:
    """Write why an app cannot be."""
    return pb.CreateSubAgentResponse.AppCreationError(index=problem.index, field=problem.field, error=problem.error)
