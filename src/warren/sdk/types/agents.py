"""Workspace agents, their apps, scripts, logs and metadata."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from warren.sdk.types.base import Nanoseconds, Seconds, Sparse, Wire


class AgentScript(Sparse, frozen=True):
    """A script that an agent runs."""

    id: UUID
    log_source_id: UUID
    log_path: str
    script: str
    cron: str
    run_on_start: bool
    run_on_stop: bool
    start_blocks_login: bool
    timeout: Nanoseconds
    display_name: str
    exit_code: int | None = None
    status: str | None = None


class Healthcheck(Wire, frozen=True):
    """How an app's health is probed."""

    url: str
    interval: Seconds
    threshold: int


class AppStatus(Wire, frozen=True):
    """What an app says it is doing."""

    id: UUID
    created_at: datetime
    workspace_id: UUID
    agent_id: UUID
    app_id: UUID
    state: str
    message: str
    uri: str
    icon: str
    needs_user_attention: bool


class WorkspaceApp(Sparse, frozen=True):
    """A port or command that an agent offers."""

    id: UUID
    external: bool
    slug: str
    subdomain: bool
    sharing_level: str
    healthcheck: Healthcheck
    health: str
    hidden: bool
    open_in: str
    statuses: list[AppStatus]
    url: str = ""
    display_name: str = ""
    command: str = ""
    icon: str = ""
    subdomain_name: str = ""
    group: str = ""
    tooltip: str = ""


class AgentHealth(Sparse, frozen=True):
    """Whether an agent does what it should."""

    healthy: bool
    reason: str = ""


class AgentLatency(Wire, frozen=True):
    """How far a relay region is from an agent."""

    preferred: bool
    latency_ms: float


class LogSource(Wire, frozen=True):
    """Where lines of an agent's log come from."""

    workspace_agent_id: UUID
    id: UUID
    created_at: datetime
    display_name: str
    icon: str


class WorkspaceAgent(Sparse, frozen=True):
    """The process in a workspace."""

    id: UUID
    parent_id: UUID | None
    created_at: datetime
    updated_at: datetime
    status: str
    lifecycle_state: str
    name: str
    resource_id: UUID
    architecture: str
    environment_variables: dict[str, str] | None
    operating_system: str
    logs_length: int
    logs_overflowed: bool
    version: str
    api_version: str
    apps: list[WorkspaceApp]
    connection_timeout_seconds: int
    troubleshooting_url: str
    subsystems: list[str]
    health: AgentHealth
    display_apps: list[str]
    log_sources: list[LogSource]
    scripts: list[AgentScript]
    startup_script_behavior: str
    first_connected_at: datetime | None = None
    last_connected_at: datetime | None = None
    disconnected_at: datetime | None = None
    started_at: datetime | None = None
    ready_at: datetime | None = None
    instance_id: str = ""
    directory: str = ""
    expanded_directory: str = ""
    latency: dict[str, AgentLatency] = {}


class AgentLog(Wire, frozen=True):
    """One line of an agent's log."""

    id: int
    created_at: datetime
    output: str
    level: str
    source_id: UUID


class MetadataResult(Wire, frozen=True):
    """The newest value of a metadata item."""

    collected_at: datetime
    age: Seconds
    value: str
    error: str


class MetadataDescription(Wire, frozen=True):
    """How a metadata item is collected."""

    display_name: str
    key: str
    script: str
    interval: Seconds
    timeout: Seconds


class AgentMetadata(Wire, frozen=True):
    """A metadata item of an agent."""

    result: MetadataResult
    description: MetadataDescription


class ListeningPort(Wire, frozen=True):
    """A port on which something listens in a workspace."""

    process_name: str
    network: str
    port: int


class ListeningPorts(Wire, frozen=True):
    """The ports on which something listens in a workspace."""

    ports: list[ListeningPort]


# A DERP map is Tailscale's JSON document: capitalised keys, region ids as text. `warren.net.derp_map` reads it.
DERPMapJSON = dict[str, Any]


class AgentConnectionInfo(Sparse, frozen=True):
    """What a client needs to reach an agent."""

    derp_map: DERPMapJSON | None
    derp_force_websockets: bool
    disable_direct_connections: bool
    hostname_suffix: str = ""


class SSHConfig(Wire, frozen=True):
    """What `config-ssh` writes."""

    hostname_prefix: str
    hostname_suffix: str
    ssh_config_options: dict[str, str]
