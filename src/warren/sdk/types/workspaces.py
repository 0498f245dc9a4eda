"""Workspaces, builds and their resources."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from warren.sdk.types.agents import AppStatus, WorkspaceAgent
from warren.sdk.types.base import NIL_UUID, Milliseconds, Sparse, Wire
from warren.sdk.types.jobs import MatchedProvisioners, ProvisionerJob
from warren.sdk.types.templates import BuildParameter


class ResourceMetadata(Wire, frozen=True):
    """A key and value that a template shows with a resource."""

    key: str
    value: str
    sensitive: bool


class WorkspaceResource(Sparse, frozen=True):
    """Something that a build made."""

    id: UUID
    created_at: datetime
    job_id: UUID
    workspace_transition: str
    type: str
    name: str
    hide: bool
    icon: str
    daily_cost: int
    agents: list[WorkspaceAgent] = []
    metadata: list[ResourceMetadata] = []


class WorkspaceBuild(Sparse, frozen=True):
    """One run of a template version for a workspace."""

    id: UUID
    created_at: datetime
    updated_at: datetime
    workspace_id: UUID
    workspace_name: str
    workspace_owner_id: UUID
    workspace_owner_name: str
    template_version_id: UUID
    template_version_name: str
    build_number: int
    transition: str
    initiator_id: UUID
    initiator_name: str
    job: ProvisionerJob
    reason: str
    resources: list[WorkspaceResource]
    deadline: datetime | None
    max_deadline: datetime | None
    status: str
    daily_cost: int
    template_version_preset_id: UUID | None
    workspace_owner_avatar_url: str = ""
    matched_provisioners: MatchedProvisioners | None = None
    has_ai_task: bool | None = None
    has_external_agent: bool | None = None


class WorkspaceHealth(Wire, frozen=True):
    """Whether all agents of a workspace do what they should."""

    healthy: bool
    failing_agents: list[UUID]


class SharedWith(Sparse, frozen=True):
    """A user or group that a workspace is shared with."""

    id: UUID
    actor_type: str
    name: str
    roles: list[str]
    avatar_url: str = ""


class Workspace(Sparse, frozen=True):
    """A developer's machine."""

    id: UUID
    created_at: datetime
    updated_at: datetime
    owner_id: UUID
    owner_name: str
    owner_avatar_url: str
    organization_id: UUID
    organization_name: str
    template_id: UUID
    template_name: str
    template_display_name: str
    template_icon: str
    template_allow_user_cancel_workspace_jobs: bool
    template_active_version_id: UUID
    template_require_active_version: bool
    template_use_classic_parameter_flow: bool
    latest_build: WorkspaceBuild
    latest_app_status: AppStatus | None
    outdated: bool
    name: str
    last_used_at: datetime
    deleting_at: datetime | None
    dormant_at: datetime | None
    health: WorkspaceHealth
    automatic_updates: str
    allow_renames: bool
    favorite: bool
    next_start_at: datetime | None
    is_prebuild: bool
    autostart_schedule: str | None = None
    ttl_ms: Milliseconds | None = None
    shared_with: list[SharedWith] = []


class WorkspaceList(Wire, frozen=True):
    """A page of workspaces; `count` is of all that match."""

    workspaces: list[Workspace]
    count: int


class CreateWorkspace(Sparse, frozen=True):
    """Create a workspace from a template, or from one of its versions."""

    name: str = ""
    template_id: UUID = NIL_UUID
    template_version_id: UUID = NIL_UUID
    autostart_schedule: str | None = None
    ttl_ms: Milliseconds | None = None
    rich_parameter_values: list[BuildParameter] | None = None
    automatic_updates: str = ""
    template_version_preset_id: UUID = NIL_UUID


class FollowUpBuild(Sparse, frozen=True):
    """A build to queue when this one succeeded."""

    transition: str
    template_version_id: UUID = NIL_UUID
    rich_parameter_values: list[BuildParameter] | None = None
    template_version_preset_id: UUID = NIL_UUID


class CreateWorkspaceBuild(Sparse, frozen=True):
    """Start, stop or delete a workspace. `state` is base64."""

    transition: str = ""
    template_version_id: UUID = NIL_UUID
    dry_run: bool = False
    state: bytes | None = None
    orphan: bool = False
    rich_parameter_values: list[BuildParameter] | None = None
    log_level: str = ""
    template_version_preset_id: UUID = NIL_UUID
    reason: str = ""
    on_success: FollowUpBuild | None = None


class UpdateWorkspace(Sparse, frozen=True):
    """Rename a workspace."""

    name: str = ""


class UpdateAutostart(Sparse, frozen=True):
    """Set or clear the schedule by which a workspace starts."""

    schedule: str | None = None


class UpdateTTL(Sparse, frozen=True):
    """Set or clear how long a workspace runs."""

    ttl_ms: Milliseconds | None = None


class ExtendWorkspace(Sparse, frozen=True):
    """Move the moment at which a workspace stops."""

    deadline: datetime


class UpdateDormancy(Sparse, frozen=True):
    """Put a workspace to sleep or wake it."""

    dormant: bool


class UpdateAutomaticUpdates(Sparse, frozen=True):
    """Choose whether a start takes the newest template version."""

    automatic_updates: str


class WorkspaceUsage(Sparse, frozen=True):
    """Say that a workspace is in use, and by which app."""

    agent_id: UUID = NIL_UUID
    app_name: str = ""


class UpdateBuildState(Sparse, frozen=True):
    """Replace the Terraform state of a build; `state` is base64."""

    state: bytes


class ResolveAutostart(Wire, frozen=True):
    """Whether an automatic start would need answers from the user."""

    parameter_mismatch: bool


class ProvisionerTiming(Wire, frozen=True):
    """How long one step of a build took."""

    job_id: UUID
    started_at: datetime
    ended_at: datetime
    stage: str
    source: str
    action: str
    resource: str


class ScriptTiming(Wire, frozen=True):
    """How long a script of an agent took."""

    started_at: datetime
    ended_at: datetime
    exit_code: int
    stage: str
    status: str
    display_name: str
    workspace_agent_id: UUID
    workspace_agent_name: str


class ConnectionTiming(Wire, frozen=True):
    """How long an agent took to connect."""

    started_at: datetime
    ended_at: datetime
    stage: str
    workspace_agent_id: UUID
    workspace_agent_name: str


class BuildTimings(Wire, frozen=True):
    """Where the time of a build went."""

    provisioner_timings: list[ProvisionerTiming]
    agent_script_timings: list[ScriptTiming]
    agent_connection_timings: list[ConnectionTiming]
