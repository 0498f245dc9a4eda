"""What the control plane tells an agent about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from warren.net.derp_map import DERPMap


class AppHealth(StrEnum):
    """How an app is, as far as its health check tells."""

    DISABLED = "disabled"
    INITIALIZING = "initializing"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Script:
    """Something to run when the workspace starts, stops, or by the clock."""

    script_id: UUID
    log_source_id: UUID
    text: str
    display_name: str = ""
    log_path: str = ""
    cron: str = ""
    on_start: bool = False
    on_stop: bool = False
    blocks_login: bool = False
    timeout: timedelta = timedelta()
    """How long it may run; zero is no limit."""


@dataclass(frozen=True, slots=True)
class App:
    """A port or program that the workspace offers, and how to ask whether it is well."""

    app_id: UUID
    slug: str
    health: AppHealth
    check_url: str = ""
    check_interval: timedelta = timedelta()
    check_threshold: int = 0

    @property
    def checked(self) -> bool:
        """Say whether its health is to be watched."""
        enabled = self.health is not AppHealth.DISABLED
        return enabled and bool(self.check_url) and self.check_interval > timedelta() and self.check_threshold > 0


@dataclass(frozen=True, slots=True)
class MetadataDescription:
    """A value that the dashboard shows: the script that prints it and how often to run it."""

    key: str
    script: str
    display_name: str = ""
    interval: timedelta = timedelta()
    """How often it is collected; zero is once."""
    timeout: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of the owner, wanted as a variable, a file or both."""

    value: bytes = field(repr=False)
    variable: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Banner:
    """An announcement of the operator, shown at login."""

    enabled: bool
    message: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything an agent needs to know; sent anew on each connection."""

    agent_id: UUID
    workspace_id: UUID
    owner_name: str = ""
    workspace_name: str = ""
    agent_name: str = ""
    directory: str = ""
    motd_path: str = ""
    port_proxy_uri: str = ""
    git_providers: int = 0
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    block_direct: bool = False
    force_websockets: bool = False
    derp_map: DERPMap | None = None
    scripts: tuple[Script, ...] = ()
    apps: tuple[App, ...] = ()
    metadata: tuple[MetadataDescription, ...] = ()
    secrets: tuple[Secret, ...] = ()
    parent_id: UUID | None = None
