"""What a provisioner reports of a template or a build: resources, agents and what belongs to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from warren.domain.build import Transition
from warren.errors import Invalid


@dataclass(frozen=True, slots=True)
class ResourceMetadata:
    """A key and value that a template shows with a resource."""

    key: str
    value: str
    sensitive: bool


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that a build made, as it is stored."""

    id: UUID
    job_id: UUID
    created_at: datetime
    transition: Transition
    type: str
    name: str
    hide: bool
    icon: str
    daily_cost: int
    metadata: Sequence[ResourceMetadata]


@dataclass(frozen=True, slots=True)
class Env:
    """A variable that the template adds to an agent's environment."""

    name: str
    value: str
    merge_strategy: str


@dataclass(frozen=True, slots=True)
class Script:
    """A script of an agent."""

    display_name: str
    icon: str
    script: str
    cron: str
    log_path: str
    start_blocks_login: bool
    run_on_start: bool
    run_on_stop: bool
    timeout_seconds: int


@dataclass(frozen=True, slots=True)
class App:
    """A port or command that an agent offers."""

    id: UUID
    slug: str
    display_name: str
    icon: str
    command: str
    url: str
    external: bool
    subdomain: bool
    sharing_level: str
    healthcheck_url: str
    healthcheck_interval: int
    healthcheck_threshold: int
    display_order: int
    display_group: str
    hidden: bool
    open_in: str
    tooltip: str

    @property
    def health(self) -> str:
        """Say how healthy it is before anything was probed."""
        return "initializing" if self.healthcheck_url else "disabled"


@dataclass(frozen=True, slots=True)
class MetadataItem:
    """A value that an agent collects again and again."""

    key: str
    display_name: str
    script: str
    interval_seconds: int
    timeout_seconds: int
    display_order: int


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent of a resource."""

    name: str
    token: str
    instance_id: str
    operating_system: str
    architecture: str
    directory: str
    env: Mapping[str, str]
    extra_envs: Sequence[Env]
    motd_file: str
    connection_timeout_seconds: int
    troubleshooting_url: str
    display_apps: Sequence[str]
    display_order: int
    api_key_scope: str
    # A JSON object that the agent gets back as it is.
    resources_monitoring: Mapping[str, object] | None
    apps: Sequence[App]
    scripts: Sequence[Script]
    metadata: Sequence[MetadataItem]


@dataclass(frozen=True, slots=True)
class ReportedResource:
    """A resource as a provisioner reports it."""

    type: str
    name: str
    hide: bool
    icon: str
    instance_type: str
    module_path: str
    daily_cost: int
    metadata: Sequence[ResourceMetadata]
    agents: Sequence[Agent]


@dataclass(frozen=True, slots=True)
class Module:
    """A Terraform module that a template uses."""

    source: str
    version: str
    key: str


def environment(agent: Agent) -> dict[str, str]:
    """Build an agent's environment: what the template adds, in order, under what the agent itself sets.

    Raises:
        Invalid: a variable is defined twice where the template calls that an error.
    """
    result: dict[str, str] = {}
    for env in agent.extra_envs:
        present = env.name in result
        match env.merge_strategy:
            case "append" if present:
                result[env.name] = f"{result[env.name]}:{env.value}"
            case "prepend" if present:
                result[env.name] = f"{env.value}:{result[env.name]}"
            case "error" if present:
                raise Invalid(
                    f'duplicate env var "{env.name}": merge_strategy is "error" but variable is already defined'
                )
            case _:
                result[env.name] = env.value
    return result | dict(agent.env)


def check(resource: ReportedResource) -> None:
    """Refuse agents and apps that could not be told apart.

    Raises:
        Invalid: two agents of the resource share a name, or two of their apps share a slug.
    """
    names: set[str] = set()
    slugs: set[str] = set()
    for agent in resource.agents:
        if agent.name.lower() in names:
            raise Invalid(f"duplicate agent name {agent.name!r}")
        names.add(agent.name.lower())
        for app in agent.apps:
            if not app.slug:
                raise Invalid("app must have a slug or name set")
            if app.slug in slugs:
                raise Invalid(f"duplicate app slug, must be unique per template: {app.slug!r}")
            slugs.add(app.slug)
