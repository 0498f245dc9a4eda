"""Agents as clients see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from warren.domain import agent as rules
from warren.domain.agent import AgentParts, AgentView, App, AppStatus, LogLine, LogSource, MetadataItem, Script
from warren.net.derp_map import DERPMap
from warren.sdk.types import agents as wire
from warren.sdk.types.base import ZERO_TIME
from warren.services.agents import AgentSettings

NEVER_SECONDS = 9223372036
"""The age of what was never collected: the longest duration that clients written in Go can hold."""
_NANOSECONDS = 1_000_000_000


def agent(view: AgentView) -> wire.WorkspaceAgent:
    """Convert an agent."""
    parts, found = view.parts, view.parts.agent
    blocking = any(script.start_blocks_login for script in parts.scripts)
    return wire.WorkspaceAgent(
        id=found.id,
        parent_id=found.parent_id,
        created_at=found.created_at,
        updated_at=found.updated_at,
        status=view.status.value,
        lifecycle_state=found.lifecycle.value,
        name=found.name,
        resource_id=found.resource_id,
        architecture=found.architecture,
        environment_variables=dict(found.environment_variables),
        operating_system=found.operating_system,
        logs_length=found.logs_length,
        logs_overflowed=found.logs_overflowed,
        version=found.version,
        api_version=found.api_version,
        apps=[app(parts, each, subdomain=view.subdomain_apps) for each in parts.apps],
        connection_timeout_seconds=found.connection_timeout_seconds,
        troubleshooting_url=found.troubleshooting_url,
        subsystems=list(found.subsystems),
        health=wire.AgentHealth(healthy=view.health.healthy, reason=view.health.reason),
        display_apps=list(found.display_apps),
        log_sources=[log_source(found.id, source) for source in parts.log_sources],
        scripts=[_script(each) for each in parts.scripts],
        startup_script_behavior="blocking" if blocking else "non-blocking",
        first_connected_at=found.first_connected_at,
        last_connected_at=found.last_connected_at,
        disconnected_at=view.disconnected_at,
        started_at=found.started_at,
        ready_at=found.ready_at,
        instance_id=found.auth_instance_id or "",
        directory=found.directory,
        expanded_directory=found.expanded_directory,
        latency={
            name: wire.AgentLatency(preferred=each.preferred, latency_ms=each.milliseconds)
            for name, each in view.latency.items()
        },
    )


def app(parts: AgentParts, found: App, *, subdomain: bool) -> wire.WorkspaceApp:
    """Convert an app."""
    return wire.WorkspaceApp(
        id=found.id,
        external=found.external,
        slug=found.slug,
        subdomain=found.subdomain,
        sharing_level=found.sharing_level,
        healthcheck=wire.Healthcheck(
            url=found.healthcheck_url, interval=found.healthcheck_interval, threshold=found.healthcheck_threshold
        ),
        health=found.health,
        hidden=found.hidden,
        open_in=found.open_in,
        statuses=[_app_status(status) for status in found.statuses],
        url=found.url,
        display_name=found.display_name,
        command=found.command,
        icon=found.icon,
        subdomain_name=rules.subdomain_name(parts, found) if subdomain else "",
        group=found.display_group,
        tooltip=found.tooltip,
    )


def _app_status(found: AppStatus) -> wire.AppStatus:
    return wire.AppStatus(
        id=found.id,
        created_at=found.created_at,
        workspace_id=found.workspace_id,
        agent_id=found.agent_id,
        app_id=found.app_id,
        state=found.state,
        message=found.message,
        uri=found.uri,
        icon="",
        needs_user_attention=False,
    )


def _script(found: Script) -> wire.AgentScript:
    return wire.AgentScript(
        id=found.id,
        log_source_id=found.log_source_id,
        log_path=found.log_path,
        script=found.script,
        cron=found.cron,
        run_on_start=found.run_on_start,
        run_on_stop=found.run_on_stop,
        start_blocks_login=found.start_blocks_login,
        timeout=found.timeout_seconds * _NANOSECONDS,
        display_name=found.display_name,
        exit_code=found.exit_code,
        status=found.status,
    )


def log_source(agent_id: UUID, found: LogSource) -> wire.LogSource:
    """Convert a source of log lines."""
    return wire.LogSource(
        workspace_agent_id=agent_id,
        id=found.id,
        created_at=found.created_at,
        display_name=found.display_name,
        icon=found.icon,
    )


def log_lines(lines: Sequence[LogLine]) -> list[wire.AgentLog]:
    """Convert lines of a log."""
    return [
        wire.AgentLog(
            id=line.id, created_at=line.created_at, output=line.output, level=line.level, source_id=line.source_id
        )
        for line in lines
    ]


def log_text(lines: Sequence[LogLine]) -> str:
    """Write lines of a log for people."""
    return "".join(f"{line.created_at:%Y-%m-%d %H:%M:%S}.{_ms(line)} [{line.level}] {line.output}\n" for line in lines)


def _ms(line: LogLine) -> str:
    return f"{line.created_at.microsecond // 1000:03d}"


def metadata(items: Sequence[MetadataItem], now: datetime) -> list[wire.AgentMetadata]:
    """Convert what an agent collects."""
    return [
        wire.AgentMetadata(
            result=wire.MetadataResult(
                collected_at=item.collected_at or ZERO_TIME,
                age=int((now - item.collected_at).total_seconds()) if item.collected_at else NEVER_SECONDS,
                value=item.value,
                error=item.error,
            ),
            description=wire.MetadataDescription(
                display_name=item.display_name,
                key=item.key,
                script=item.script,
                interval=item.interval_seconds,
                timeout=item.timeout_seconds,
            ),
        )
        for item in items
    ]


def connection_info(settings: AgentSettings, derp_map: DERPMap) -> wire.AgentConnectionInfo:
    """Convert what a client needs to reach agents."""
    return wire.AgentConnectionInfo(
        derp_map=derp_map.to_json(),
        derp_force_websockets=settings.force_websockets,
        disable_direct_connections=settings.block_direct,
        hostname_suffix=settings.hostname_suffix,
    )
