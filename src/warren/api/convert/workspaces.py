"""Workspaces, builds and resources as clients see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from warren.api.convert import agents as agents_out
from warren.api.convert import jobs as jobs_out
from warren.domain.build import status_of
from warren.domain.workspace import Workspace
from warren.sdk.types import agents as agent_wire
from warren.sdk.types import workspaces as wire
from warren.services.build_views import BuildDetail, ResourceView, WorkspaceDetail
from warren.storage.job_logs import Timing
from warren.storage.timings import Timings


def workspace(detail: WorkspaceDetail) -> wire.Workspace:
    """Convert a workspace with its latest build."""
    found, view = detail.view.workspace, detail.view
    build = build_of(detail.build)
    agents = [agent for resource in build.resources for agent in resource.agents]
    failing = [agent.id for agent in agents if not agent.health.healthy]
    return wire.Workspace(
        id=found.id,
        created_at=found.created_at,
        updated_at=found.updated_at,
        owner_id=found.owner_id,
        owner_name=view.owner_name,
        owner_avatar_url=view.owner_avatar_url,
        organization_id=found.organization_id,
        organization_name=view.organization_name,
        template_id=found.template_id,
        template_name=view.template.name,
        template_display_name=view.template.display_name,
        template_icon=view.template.icon,
        template_allow_user_cancel_workspace_jobs=view.template.allow_user_cancel_workspace_jobs,
        template_active_version_id=view.template.active_version_id,
        template_require_active_version=view.template.require_active_version,
        template_use_classic_parameter_flow=view.template.use_classic_parameter_flow,
        latest_build=build,
        latest_app_status=_latest_status(agents),
        outdated=build.template_version_id != view.template.active_version_id,
        name=found.name,
        last_used_at=found.last_used_at,
        deleting_at=found.deleting_at,
        dormant_at=found.dormant_at,
        health=wire.WorkspaceHealth(healthy=not failing, failing_agents=failing),
        automatic_updates=found.automatic_updates,
        allow_renames=detail.allow_renames,
        favorite=view.favorite,
        next_start_at=found.next_start_at,
        is_prebuild=False,
        autostart_schedule=found.autostart_schedule,
        ttl_ms=found.ttl_ms,
        shared_with=_shared_with(found),
    )


def _latest_status(agents: Sequence[agent_wire.WorkspaceAgent]) -> agent_wire.AppStatus | None:
    statuses = [status for agent in agents for app in agent.apps for status in app.statuses]
    return max(statuses, key=lambda status: status.created_at, default=None)


def _shared_with(found: Workspace) -> list[wire.SharedWith]:
    # Names come with sharing itself; until then nothing is ever stored in these lists.
    entries = [("user", found.user_acl), ("group", found.group_acl)]
    return [
        wire.SharedWith(id=UUID(key), actor_type=kind, name="", roles=list(actions))
        for kind, acl in entries
        for key, actions in acl.items()
    ]


def build_of(detail: BuildDetail) -> wire.WorkspaceBuild:
    """Convert a build."""
    view, found, job = detail.view, detail.view.build, detail.view.job.job
    return wire.WorkspaceBuild(
        id=found.id,
        created_at=found.created_at,
        updated_at=found.updated_at,
        workspace_id=found.workspace_id,
        workspace_name=view.workspace_name,
        workspace_owner_id=view.owner_id,
        workspace_owner_name=view.owner_name,
        template_version_id=found.template_version_id,
        template_version_name=view.template_version_name,
        build_number=found.build_number,
        transition=found.transition.value,
        initiator_id=found.initiator_id,
        initiator_name=view.initiator_name,
        job=jobs_out.job(view.job, detail.queue),
        reason=found.reason.value,
        resources=[resource(item) for item in detail.resources],
        deadline=found.deadline,
        max_deadline=found.max_deadline,
        status=status_of(job.status, found.transition).value,
        daily_cost=found.daily_cost,
        template_version_preset_id=found.template_version_preset_id,
        workspace_owner_avatar_url=view.owner_avatar_url,
        matched_provisioners=jobs_out.matched(detail.matched) if detail.matched else None,
        has_ai_task=found.has_ai_task,
        has_external_agent=found.has_external_agent,
    )


def resource(view: ResourceView) -> wire.WorkspaceResource:
    """Convert a resource with its agents."""
    found = view.resource
    return wire.WorkspaceResource(
        id=found.id,
        created_at=found.created_at,
        job_id=found.job_id,
        workspace_transition=found.transition.value,
        type=found.type,
        name=found.name,
        hide=found.hide,
        icon=found.icon,
        daily_cost=found.daily_cost,
        agents=[agents_out.agent(agent) for agent in view.agents],
        metadata=[
            wire.ResourceMetadata(key=item.key, value=item.value, sensitive=item.sensitive) for item in found.metadata
        ],
    )


def parameters(values: Mapping[str, str]) -> list[wire.BuildParameter]:
    """Convert the parameter values of a build."""
    return [wire.BuildParameter(name=name, value=value) for name, value in values.items()]


def build_timings(found: Timings) -> wire.BuildTimings:
    """Convert where the time of a build went."""
    return wire.BuildTimings(
        provisioner_timings=_provisioner_timings(found.steps),
        agent_script_timings=[
            wire.ScriptTiming(
                started_at=item.started_at,
                ended_at=item.ended_at,
                exit_code=item.exit_code,
                stage=item.stage,
                status=item.status,
                display_name=item.display_name,
                workspace_agent_id=item.agent_id,
                workspace_agent_name=item.agent_name,
            )
            for item in found.scripts
        ],
        agent_connection_timings=[
            wire.ConnectionTiming(
                started_at=item.started_at,
                ended_at=item.ended_at,
                stage="connect",
                workspace_agent_id=item.agent_id,
                workspace_agent_name=item.agent_name,
            )
            for item in found.connections
        ],
    )


def _provisioner_timings(found: Sequence[Timing]) -> list[wire.ProvisionerTiming]:
    return [
        wire.ProvisionerTiming(
            job_id=item.job_id,
            started_at=item.started_at,
            ended_at=item.ended_at,
            stage=item.stage,
            source=item.source,
            action=item.action,
            resource=item.resource,
        )
        for item in found
    ]
