"""One connection to the control plane, as the agent's own verbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from warren.agent import control_messages as messages
from warren.agent.connections import ConnectionReport
from warren.agent.lifecycle import LifecycleChange
from warren.agent.logs import Batch
from warren.agent.manifest import AppHealth, Banner, Manifest
from warren.agent.metadata import MetadataResult
from warren.agent.resources import MonitoringPlan, Sample
from warren.agent.scripts import ScriptRun
from warren.agent.stats import StatsReport
from warren.rpc._pb import agent_pb2 as pb
from warren.rpc.drpc import Client
from warren.rpc.methods import AgentAPI


class ControlPlane:
    """What an agent asks and reports. Each call raises `RemoteError` or `Unavailable` when it fails."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def manifest(self) -> Manifest:
        """Ask what we are."""
        return messages.manifest_from_message(await self.client.unary(AgentAPI.GetManifest, pb.GetManifestRequest()))

    async def banners(self) -> tuple[Banner, ...]:
        """Ask for the operator's announcements."""
        request = pb.GetAnnouncementBannersRequest()
        return messages.banners_from_message(await self.client.unary(AgentAPI.GetAnnouncementBanners, request))

    async def report_startup(self, version: str, directory: str, subsystems: Sequence[str]) -> None:
        """Tell who runs here."""
        kinds = [name.upper() for name in subsystems]  # enum values by their names
        startup = pb.Startup(version=version, expanded_directory=directory, subsystems=kinds)
        await self.client.unary(AgentAPI.UpdateStartup, pb.UpdateStartupRequest(startup=startup))

    async def report_lifecycle(self, change: LifecycleChange) -> None:
        """Tell which state was entered."""
        await self.client.unary(AgentAPI.UpdateLifecycle, messages.lifecycle_to_message(change))

    async def send_logs(self, batch: Batch) -> bool:
        """Send output; the answer says whether the control plane takes more."""
        answer = await self.client.unary(AgentAPI.BatchCreateLogs, messages.logs_to_message(batch))
        return not answer.log_limit_exceeded

    async def report_metadata(self, results: Mapping[str, MetadataResult]) -> None:
        """Send collected values."""
        await self.client.unary(AgentAPI.BatchUpdateMetadata, messages.metadata_to_message(results))

    async def report_healths(self, picture: Mapping[UUID, AppHealth]) -> None:
        """Send the health of the apps."""
        await self.client.unary(AgentAPI.BatchUpdateAppHealths, messages.healths_to_message(picture))

    async def report_script(self, run: ScriptRun) -> None:
        """Tell how a script went."""
        await self.client.unary(AgentAPI.ScriptCompleted, messages.run_to_message(run))

    async def report_connection(self, report: ConnectionReport) -> None:
        """Tell that a connection began or ended."""
        await self.client.unary(AgentAPI.ReportConnection, messages.connection_to_message(report))

    async def stats_interval_seconds(self) -> float:
        """Ask how often to report statistics."""
        answer = await self.client.unary(AgentAPI.UpdateStats, pb.UpdateStatsRequest())
        return answer.report_interval.ToTimedelta().total_seconds()

    async def report_stats(self, report: StatsReport) -> float:
        """Send statistics; return how long to wait before the next, in seconds."""
        answer = await self.client.unary(AgentAPI.UpdateStats, messages.stats_to_message(report))
        return answer.report_interval.ToTimedelta().total_seconds()

    async def monitoring_plan(self) -> MonitoringPlan:
        """Ask what to watch."""
        request = pb.GetResourcesMonitoringConfigurationRequest()
        return messages.plan_from_message(
            await self.client.unary(AgentAPI.GetResourcesMonitoringConfiguration, request)
        )

    async def report_samples(self, samples: Sequence[Sample]) -> None:
        """Send measurements."""
        await self.client.unary(AgentAPI.PushResourcesMonitoringUsage, messages.samples_to_message(samples))
