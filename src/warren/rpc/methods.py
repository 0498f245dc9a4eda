"""Every remote call by name: its path and the types that travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from warren.rpc._pb import agent_pb2 as agent
from warren.rpc._pb import provisioner_pb2 as provisioner
from warren.rpc._pb import provisionerd_pb2 as provisionerd
from warren.rpc._pb import tailnet_pb2 as tailnet

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


@dataclass(frozen=True, slots=True)
class Unary(Generic[Req, Res]):
    """One request, one response."""

    path: str
    request: type[Req]
    response: type[Res]


@dataclass(frozen=True, slots=True)
class ServerStream(Generic[Req, Res]):
    """One request, many responses."""

    path: str
    request: type[Req]
    response: type[Res]


@dataclass(frozen=True, slots=True)
class ClientStream(Generic[Req, Res]):
    """Many requests, one response."""

    path: str
    request: type[Req]
    response: type[Res]


@dataclass(frozen=True, slots=True)
class BidiStream(Generic[Req, Res]):
    """Many requests and many responses, in any order."""

    path: str
    request: type[Req]
    response: type[Res]


Streaming: TypeAlias = ServerStream[Req, Res] | ClientStream[Req, Res] | BidiStream[Req, Res]
# `Any`: a method of any messages; its type parameters are invariant, so that a call takes its own request only.
AnyMethod: TypeAlias = Unary[Any, Any] | ServerStream[Any, Any] | ClientStream[Any, Any] | BidiStream[Any, Any]

_AGENT = "/coder.agent.v2.Agent/"
_TAILNET = "/coder.tailnet.v2.Tailnet/"
_PROVISIONER_DAEMON = "/provisionerd.ProvisionerDaemon/"


class AgentAPI:
    """What an agent asks of the control plane and reports to it."""

    GetManifest = Unary(_AGENT + "GetManifest", agent.GetManifestRequest, agent.Manifest)
    GetServiceBanner = Unary(_AGENT + "GetServiceBanner", agent.GetServiceBannerRequest, agent.ServiceBanner)
    UpdateStats = Unary(_AGENT + "UpdateStats", agent.UpdateStatsRequest, agent.UpdateStatsResponse)
    UpdateLifecycle = Unary(_AGENT + "UpdateLifecycle", agent.UpdateLifecycleRequest, agent.Lifecycle)
    BatchUpdateAppHealths = Unary(
        _AGENT + "BatchUpdateAppHealths", agent.BatchUpdateAppHealthRequest, agent.BatchUpdateAppHealthResponse
    )
    UpdateStartup = Unary(_AGENT + "UpdateStartup", agent.UpdateStartupRequest, agent.Startup)
    BatchUpdateMetadata = Unary(
        _AGENT + "BatchUpdateMetadata", agent.BatchUpdateMetadataRequest, agent.BatchUpdateMetadataResponse
    )
    BatchCreateLogs = Unary(_AGENT + "BatchCreateLogs", agent.BatchCreateLogsRequest, agent.BatchCreateLogsResponse)
    GetAnnouncementBanners = Unary(
        _AGENT + "GetAnnouncementBanners", agent.GetAnnouncementBannersRequest, agent.GetAnnouncementBannersResponse
    )
    ScriptCompleted = Unary(
        _AGENT + "ScriptCompleted",
        agent.WorkspaceAgentScriptCompletedRequest,
        agent.WorkspaceAgentScriptCompletedResponse,
    )
    GetResourcesMonitoringConfiguration = Unary(
        _AGENT + "GetResourcesMonitoringConfiguration",
        agent.GetResourcesMonitoringConfigurationRequest,
        agent.GetResourcesMonitoringConfigurationResponse,
    )
    PushResourcesMonitoringUsage = Unary(
        _AGENT + "PushResourcesMonitoringUsage",
        agent.PushResourcesMonitoringUsageRequest,
        agent.PushResourcesMonitoringUsageResponse,
    )
    ReportConnection = Unary(_AGENT + "ReportConnection", agent.ReportConnectionRequest, Empty)
    CreateSubAgent = Unary(_AGENT + "CreateSubAgent", agent.CreateSubAgentRequest, agent.CreateSubAgentResponse)
    DeleteSubAgent = Unary(_AGENT + "DeleteSubAgent", agent.DeleteSubAgentRequest, agent.DeleteSubAgentResponse)
    ListSubAgents = Unary(_AGENT + "ListSubAgents", agent.ListSubAgentsRequest, agent.ListSubAgentsResponse)
    ReportBoundaryLogs = Unary(
        _AGENT + "ReportBoundaryLogs", agent.ReportBoundaryLogsRequest, agent.ReportBoundaryLogsResponse
    )
    UpdateAppStatus = Unary(_AGENT + "UpdateAppStatus", agent.UpdateAppStatusRequest, agent.UpdateAppStatusResponse)
    PushContextState = Unary(_AGENT + "PushContextState", agent.PushContextStateRequest, agent.PushContextStateResponse)


class TailnetAPI:
    """How nodes are introduced to each other."""

    PostTelemetry = Unary(_TAILNET + "PostTelemetry", tailnet.TelemetryRequest, tailnet.TelemetryResponse)
    StreamDERPMaps = ServerStream(_TAILNET + "StreamDERPMaps", tailnet.StreamDERPMapsRequest, tailnet.DERPMap)
    RefreshResumeToken = Unary(
        _TAILNET + "RefreshResumeToken", tailnet.RefreshResumeTokenRequest, tailnet.RefreshResumeTokenResponse
    )
    Coordinate = BidiStream(_TAILNET + "Coordinate", tailnet.CoordinateRequest, tailnet.CoordinateResponse)
    WorkspaceUpdates = ServerStream(
        _TAILNET + "WorkspaceUpdates", tailnet.WorkspaceUpdatesRequest, tailnet.WorkspaceUpdate
    )


class ProvisionerDaemonAPI:
    """How a provisioner daemon takes jobs and reports on them."""

    AcquireJob = Unary(_PROVISIONER_DAEMON + "AcquireJob", provisionerd.Empty, provisionerd.AcquiredJob)
    AcquireJobWithCancel = BidiStream(
        _PROVISIONER_DAEMON + "AcquireJobWithCancel", provisionerd.CancelAcquire, provisionerd.AcquiredJob
    )
    CommitQuota = Unary(
        _PROVISIONER_DAEMON + "CommitQuota", provisionerd.CommitQuotaRequest, provisionerd.CommitQuotaResponse
    )
    UpdateJob = Unary(_PROVISIONER_DAEMON + "UpdateJob", provisionerd.UpdateJobRequest, provisionerd.UpdateJobResponse)
    FailJob = Unary(_PROVISIONER_DAEMON + "FailJob", provisionerd.FailedJob, provisionerd.Empty)
    CompleteJob = Unary(_PROVISIONER_DAEMON + "CompleteJob", provisionerd.CompletedJob, provisionerd.Empty)
    UploadFile = ClientStream(_PROVISIONER_DAEMON + "UploadFile", provisionerd.UploadFileRequest, provisionerd.Empty)
    DownloadFile = ServerStream(_PROVISIONER_DAEMON + "DownloadFile", provisionerd.FileRequest, provisioner.FileUpload)
