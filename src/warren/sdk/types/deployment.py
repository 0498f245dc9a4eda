"""Entitlements, regions, configuration and statistics of the deployment."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from warren.sdk.types.base import Sparse, Wire


class Feature(Sparse, frozen=True):
    """Whether a feature is there; in Warren all that are built are."""

    entitlement: str
    enabled: bool
    limit: int | None = None
    actual: int | None = None


class Entitlements(Wire, frozen=True):
    """Which features clients may show."""

    features: dict[str, Feature]
    warnings: list[str]
    errors: list[str]
    has_license: bool
    trial: bool
    require_telemetry: bool
    refreshed_at: datetime


class Region(Wire, frozen=True):
    """A place from which workspaces can be reached."""

    id: UUID
    name: str
    display_name: str
    icon_url: str
    healthy: bool
    path_app_url: str
    wildcard_hostname: str


class Regions(Wire, frozen=True):
    """The places from which workspaces can be reached, the primary first."""

    regions: list[Region]


class Banner(Sparse, frozen=True):
    """A line of text that the operator shows to everyone."""

    enabled: bool
    message: str = ""
    background_color: str = ""


class Appearance(Sparse, frozen=True):
    """How the operator dressed the deployment."""

    application_name: str
    logo_url: str
    docs_url: str
    service_banner: Banner
    announcement_banners: list[Banner]
    support_links: list[dict[str, str]] = []


class LatencyPercentiles(Wire, frozen=True):
    """Connection latency in milliseconds."""

    P50: float
    P95: float


class WorkspaceCounts(Wire, frozen=True):
    """Workspaces by state, and their traffic."""

    pending: int
    building: int
    running: int
    failed: int
    stopped: int
    connection_latency_ms: LatencyPercentiles
    rx_bytes: int
    tx_bytes: int


class SessionCounts(Wire, frozen=True):
    """Sessions by the program that holds them."""

    vscode: int
    ssh: int
    jetbrains: int
    reconnecting_pty: int


class DeploymentStats(Wire, frozen=True):
    """What the deployment is doing."""

    aggregated_from: datetime
    collected_at: datetime
    next_update_at: datetime
    workspaces: WorkspaceCounts
    session_count: SessionCounts


class FileUploaded(Wire, frozen=True):
    """The id of an uploaded file, under the name that clients expect."""

    hash: UUID
