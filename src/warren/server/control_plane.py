"""Construct the services of a control plane, and run what belongs to them in the background.

The order of the `async with` is the order of the start; the end goes the other way round: daemons finish or give back
their jobs, connections are told to go, the database is closed last.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import anyio
import structlog
from anyio.abc import TaskGroup

from warren import __version__
from warren.api.workspace_pages import WorkspacePages
from warren.clock import Clock
from warren.net.derp_map import DERPMap
from warren.provisioner.binary import Release
from warren.provisioner.daemon import DaemonConfig, ProvisionerDaemon
from warren.provisioner.environment import program_folder
from warren.provisioner.session import CoderProvider, ProvisionerConfig
from warren.provisioner.workdir import Cache, recover
from warren.services import built_in_daemons
from warren.services.agent_rpc import AgentRPC
from warren.services.agents import Agents, AgentSettings
from warren.services.build_views import BuildViews
from warren.services.builds import Builds
from warren.services.built_in_daemons import BuiltInSettings
from warren.services.coordination import Coordination, DERPMaps
from warren.services.files import Files
from warren.services.job_payload import PayloadSettings
from warren.services.jobs import Jobs
from warren.services.lookups import Lookups
from warren.services.metadata_writer import MetadataWriter
from warren.services.provisioner_keys import ProvisionerKeys
from warren.services.provisionerd import ProvisionerDaemons, ProvisionerdSettings
from warren.services.reaper import Reaper
from warren.services.resume_tokens import ResumeTokens
from warren.services.template_versions import TemplateVersions
from warren.services.templates import Templates
from warren.services.workspace_updates import WorkspaceUpdates
from warren.services.workspaces import Workspaces
from warren.storage import organizations
from warren.storage.db import Database
from warren.storage.notify import Notifier

log = structlog.get_logger()

STOP_JOBS_SECONDS = 15.0
"""How long a stop waits for running builds before it interrupts them; Terraform then saves its state."""
TERRAFORM_EXIT_SECONDS = 20.0
"""How long Terraform may take for that before it is killed."""


@dataclass(frozen=True, slots=True)
class ControlPlaneConfig:
    """What the services need to know of the deployment."""

    access_url: str
    cache_folder: Path
    derp_map: DERPMap
    daemons: int = 3
    wildcard_app_host: str = ""
    block_direct: bool = False
    force_websockets: bool = False
    hostname_suffix: str = ""
    stats_interval: timedelta = timedelta(minutes=5)
    token_lifetime: timedelta = timedelta(hours=876600)
    provisioner_daemon_psk: str = ""
    allow_workspace_renames: bool = False
    terraform_path: Path | None = None
    terraform_release: Release | None = None
    coder_provider: CoderProvider = CoderProvider.BUILTIN
    replica_id: UUID = field(default_factory=uuid4)
    host_environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """The services around workspaces."""

    lookups: Lookups
    files: Files
    jobs: Jobs
    templates: Templates
    template_versions: TemplateVersions
    builds: Builds
    workspaces: Workspaces
    workspace_pages: WorkspacePages
    workspace_updates: WorkspaceUpdates
    agents: Agents
    agent_rpc: AgentRPC
    coordination: Coordination
    resume_tokens: ResumeTokens
    provisioner_keys: ProvisionerKeys
    provisionerd: ProvisionerDaemons
    serving: anyio.Event = field(default_factory=anyio.Event)
    """Set it once requests are answered: daemons, whose start takes a core for a moment, wait for it."""


@asynccontextmanager
async def open_control_plane(
    config: ControlPlaneConfig, database: Database, notifier: Notifier, clock: Clock
) -> AsyncGenerator[ControlPlane]:
    """Construct the services and run their background work while the context lasts."""
    resume_tokens = ResumeTokens(database, clock)
    coordination = Coordination(DERPMaps(config.derp_map), resume_tokens)
    metadata = MetadataWriter(database, clock)
    agent_settings = AgentSettings(
        access_url=config.access_url,
        replica_id=config.replica_id,
        wildcard_app_host=config.wildcard_app_host,
        block_direct=config.block_direct,
        force_websockets=config.force_websockets,
        hostname_suffix=config.hostname_suffix,
        stats_interval=config.stats_interval,
    )
    agents = Agents(database, notifier, clock, coordination, agent_settings)
    jobs = Jobs(database, notifier, clock)
    views = BuildViews(jobs, agents.agents_of_resources, allow_renames=config.allow_workspace_renames)
    builds = Builds(database, clock, jobs, views)
    workspaces = Workspaces(database, notifier, clock, builds, views)
    cache = Cache(config.cache_folder / "provisioner")
    reaper = Reaper(database, clock, lambda job_id: recover(cache, str(job_id)))
    payload = PayloadSettings(config.access_url, config.token_lifetime)
    provisionerd = ProvisionerDaemons(database, notifier, clock, ProvisionerdSettings(payload))
    plane = ControlPlane(
        lookups=Lookups(database),
        files=Files(database, clock),
        jobs=jobs,
        templates=Templates(database, clock),
        template_versions=TemplateVersions(database, clock, jobs, views),
        builds=builds,
        workspaces=workspaces,
        workspace_pages=WorkspacePages(workspaces, clock),
        workspace_updates=WorkspaceUpdates(database, notifier),
        agents=agents,
        agent_rpc=AgentRPC(database, clock, coordination, metadata, agent_settings),
        coordination=coordination,
        resume_tokens=resume_tokens,
        provisioner_keys=ProvisionerKeys(database, clock, config.provisioner_daemon_psk),
        provisionerd=provisionerd,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(metadata.run)
        tasks.start_soon(coordination.run)
        async with _daemons(config, database, cache, plane, reaper, clock):
            tasks.start_soon(reaper.run)
            try:
                yield plane
            finally:
                coordination.close()
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _daemons(
    config: ControlPlaneConfig,
    database: Database,
    cache: Cache,
    plane: ControlPlane,
    reaper: Reaper,
    clock: Clock,
) -> AsyncGenerator[None]:
    """Run the built-in provisioner daemons; at the end they finish what they have, within `STOP_JOBS_SECONDS`."""
    async with database.connection() as db:
        organization = await organizations.get_default(db)
    wanted = BuiltInSettings(config.daemons, socket.gethostname(), f"v{__version__}", organization.id)
    async with (
        built_in_daemons.claim(database.url, wanted, plane.provisionerd, reaper) as claimed,
        anyio.create_task_group() as connections,
    ):
        running = [
            ProvisionerDaemon(
                DaemonConfig(daemon.name, _provisioner(config, cache)),
                built_in_daemons.connector(plane.provisionerd, daemon, connections),
                clock,
            )
            for daemon in claimed
        ]
        async with anyio.create_task_group() as tasks:
            for daemon in running:
                tasks.start_soon(_run_daemon, daemon, plane.serving)
            try:
                yield
            finally:
                with anyio.CancelScope(shield=True):
                    await _finish(running, tasks)
        connections.cancel_scope.cancel()


async def _run_daemon(daemon: ProvisionerDaemon, serving: anyio.Event) -> None:
    """Run a daemon; one that cannot work says why, and the server goes on without it."""
    await serving.wait()
    try:
        await daemon.run()
    except Exception as error:
        hint = getattr(error, "hint", "")
        log.error("provisioner_daemon.failed", error=str(error) or repr(error), hint=hint)  # noqa: TRY400


async def _finish(daemons: Sequence[ProvisionerDaemon], tasks: TaskGroup) -> None:
    for daemon in daemons:
        daemon.stop()
    with anyio.move_on_after(STOP_JOBS_SECONDS):
        while any(daemon.busy for daemon in daemons):  # noqa: ASYNC110  a daemon has no event for "idle"
            await anyio.sleep(0.05)
    tasks.cancel_scope.cancel()


def _provisioner(config: ControlPlaneConfig, cache: Cache) -> ProvisionerConfig:
    return ProvisionerConfig(
        cache=cache,
        host_environment=dict(config.host_environment or os.environ),
        terraform_path=config.terraform_path,
        release=config.terraform_release,
        coder_provider=config.coder_provider,
        exit_seconds=TERRAFORM_EXIT_SECONDS,
        extra_path=program_folder(),
    )
