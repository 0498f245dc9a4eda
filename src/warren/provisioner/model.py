"""What the provisioner is asked to do and what it finds out, free of protobuf and of Terraform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import TypeAlias


class Transition(StrEnum):
    """What a build does; the values are those templates compare `transition` with."""

    START = "start"
    STOP = "stop"
    DESTROY = "destroy"


class PrebuildStage(Enum):
    """Whether a build makes a prebuilt workspace, or hands one to its owner."""

    NONE = 0
    CREATE = 1
    CLAIM = 2


class Level(Enum):
    """How much a line of log matters; ordered."""

    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4


class CoderProvider(StrEnum):
    """Which `coder/coder` provider Terraform uses: ours, in process, or the published one."""

    BUILTIN = "builtin"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True)
class Role:
    """A role of the workspace's owner; `org_id` is empty for a role of the whole site."""

    name: str
    org_id: str = ""


@dataclass(frozen=True, slots=True)
class BuildMetadata:
    """The workspace, its owner and its template, as templates see them."""

    access_url: str = ""
    transition: Transition = Transition.START
    workspace_id: str = ""
    workspace_name: str = ""
    workspace_build_id: str = ""
    owner_id: str = ""
    owner: str = ""
    owner_name: str = ""
    owner_email: str = ""
    owner_groups: tuple[str, ...] = ()
    owner_roles: tuple[Role, ...] = ()
    owner_login_type: str = ""
    owner_ssh_public_key: str = ""
    owner_ssh_private_key: str = field(default="", repr=False)
    owner_session_token: str = field(default="", repr=False)
    owner_oidc_access_token: str = field(default="", repr=False)
    template_id: str = ""
    template_name: str = ""
    template_version: str = ""
    template_version_id: str = ""
    prebuild_stage: PrebuildStage = PrebuildStage.NONE
    running_agent_tokens: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    task_id: str = ""
    task_prompt: str = ""
    modules_file: str = ""


@dataclass(frozen=True, slots=True)
class VariableValue:
    """The value of a template variable."""

    name: str
    value: str
    sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a plan is made with, beside the template."""

    metadata: BuildMetadata
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    previous_parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    variables: tuple[VariableValue, ...] = ()
    external_auth_tokens: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a job's log."""

    level: Level
    output: str


@dataclass(frozen=True, slots=True)
class TemplateVariable:
    """A variable that the template declares."""

    name: str
    description: str = ""
    type: str = ""
    default: str = ""
    required: bool = False
    sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Parsed:
    """What can be told from a template without running Terraform."""

    variables: tuple[TemplateVariable, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    readme: bytes = b""


@dataclass(frozen=True, slots=True)
class Module:
    """A module that `init` fetched."""

    source: str
    version: str
    key: str


class TimingState(Enum):
    """How a step ended."""

    STARTED = 0
    COMPLETED = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one step took."""

    started_at: datetime
    ended_at: datetime
    action: str
    source: str
    resource: str
    stage: str
    state: TimingState


@dataclass(frozen=True, slots=True)
class Replacement:
    """A resource that a build would destroy and create anew, and the attributes that force it to."""

    resource: str
    paths: tuple[str, ...]


class Sharing(StrEnum):
    """Who may open an app."""

    OWNER = "owner"
    AUTHENTICATED = "authenticated"
    PUBLIC = "public"


class AppWindow(StrEnum):
    """Where a browser shows an app."""

    WINDOW = "window"
    SLIM_WINDOW = "slim-window"
    TAB = "tab"


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """How an app's health is asked."""

    url: str
    interval_seconds: int
    threshold: int


@dataclass(frozen=True, slots=True)
class App:
    """A port, a command or an address that a workspace offers."""

    id: str
    slug: str
    display_name: str
    command: str = ""
    url: str = ""
    icon: str = ""
    subdomain: bool = False
    healthcheck: Healthcheck | None = None
    sharing: Sharing = Sharing.OWNER
    external: bool = False
    order: int = 0
    hidden: bool = False
    open_in: AppWindow = AppWindow.SLIM_WINDOW
    group: str = ""
    tooltip: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """A command that the agent runs at start, at stop, or on a schedule."""

    display_name: str
    script: str
    icon: str = ""
    cron: str = ""
    start_blocks_login: bool = False
    run_on_start: bool = False
    run_on_stop: bool = False
    timeout_seconds: int = 0
    log_path: str = ""


@dataclass(frozen=True, slots=True)
class Env:
    """A variable that a template adds to an agent's environment."""

    name: str
    value: str
    merge_strategy: str = "replace"


@dataclass(frozen=True, slots=True)
class AgentMetadata:
    """A figure that the agent measures again and again."""

    key: str
    display_name: str
    script: str
    interval_seconds: int
    timeout_seconds: int
    order: int


@dataclass(frozen=True, slots=True)
class DisplayApps:
    """Which of the built-in apps are shown."""

    vscode: bool = True
    vscode_insiders: bool = False
    web_terminal: bool = True
    ssh_helper: bool = True
    port_forwarding_helper: bool = True


@dataclass(frozen=True, slots=True)
class Monitor:
    """A threshold of memory (`path` is empty) or of a volume, in per cent."""

    path: str
    enabled: bool
    threshold: int


@dataclass(frozen=True, slots=True)
class Devcontainer:
    """A dev container inside a workspace."""

    id: str
    name: str
    workspace_folder: str
    config_path: str
    subagent_id: str
    apps: tuple[App, ...] = ()
    scripts: tuple[Script, ...] = ()
    envs: tuple[Env, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenAuth:
    """The agent proves who it is by a token (empty while only planned)."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class InstanceAuth:
    """The agent proves who it is by its cloud's word about the instance."""

    instance_id: str


AgentAuth: TypeAlias = TokenAuth | InstanceAuth


@dataclass(frozen=True, slots=True)
class Agent:
    """The process that a resource will run."""

    id: str
    name: str
    auth: AgentAuth
    operating_system: str
    architecture: str
    directory: str = ""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    connection_timeout_seconds: int = 0
    troubleshooting_url: str = ""
    motd_file: str = ""
    order: int = 0
    api_key_scope: str = ""
    metadata: tuple[AgentMetadata, ...] = ()
    display_apps: DisplayApps = DisplayApps()
    memory_monitor: Monitor | None = None
    volume_monitors: tuple[Monitor, ...] = ()
    apps: tuple[App, ...] = ()
    scripts: tuple[Script, ...] = ()
    extra_envs: tuple[Env, ...] = ()
    devcontainers: tuple[Devcontainer, ...] = ()


@dataclass(frozen=True, slots=True)
class MetadataItem:
    """A fact about a resource that its template shows to users."""

    key: str
    value: str
    sensitive: bool
    is_null: bool


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that a template made."""

    name: str
    type: str
    agents: tuple[Agent, ...] = ()
    metadata: tuple[MetadataItem, ...] = ()
    hide: bool = False
    icon: str = ""
    instance_type: str = ""
    daily_cost: int = 0
    module_path: str = ""


@dataclass(frozen=True, slots=True)
class ParameterOption:
    """One choice of a parameter."""

    name: str
    value: str
    description: str = ""
    icon: str = ""


@dataclass(frozen=True, slots=True)
class RichParameter:
    """A parameter that the template asks for."""

    name: str
    display_name: str
    description: str
    type: str
    form_type: str
    mutable: bool
    default: str
    icon: str
    options: tuple[ParameterOption, ...]
    required: bool
    order: int
    ephemeral: bool
    validation_regex: str = ""
    validation_error: str = ""
    validation_min: int | None = None
    validation_max: int | None = None
    validation_monotonic: str = ""


@dataclass(frozen=True, slots=True)
class PrebuildSchedule:
    """How many prebuilt workspaces to keep while a cron expression is active."""

    cron: str
    instances: int


@dataclass(frozen=True, slots=True)
class Prebuild:
    """How many prebuilt workspaces a preset keeps ready."""

    instances: int = 0
    ttl_seconds: int = 0
    timezone: str = ""
    schedules: tuple[PrebuildSchedule, ...] = ()


@dataclass(frozen=True, slots=True)
class Preset:
    """A named set of parameter values."""

    name: str
    parameters: Mapping[str, str]
    prebuild: Prebuild = Prebuild()
    default: bool = False
    description: str = ""
    icon: str = ""


@dataclass(frozen=True, slots=True)
class ExternalAuth:
    """An external service that a template wants a token of."""

    id: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class AITask:
    """A task that a workspace works on, and the app that shows it."""

    id: str
    app_id: str
    sidebar_app_id: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that a plan or a state tells about a workspace."""

    resources: tuple[Resource, ...] = ()
    parameters: tuple[RichParameter, ...] = ()
    presets: tuple[Preset, ...] = ()
    external_auth: tuple[ExternalAuth, ...] = ()
    ai_tasks: tuple[AITask, ...] = ()
    has_external_agents: bool = False
    warnings: Sequence[str] = ()
