import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ParameterFormType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEFAULT: _ClassVar[ParameterFormType]
    FORM_ERROR: _ClassVar[ParameterFormType]
    RADIO: _ClassVar[ParameterFormType]
    DROPDOWN: _ClassVar[ParameterFormType]
    INPUT: _ClassVar[ParameterFormType]
    TEXTAREA: _ClassVar[ParameterFormType]
    SLIDER: _ClassVar[ParameterFormType]
    CHECKBOX: _ClassVar[ParameterFormType]
    SWITCH: _ClassVar[ParameterFormType]
    TAGSELECT: _ClassVar[ParameterFormType]
    MULTISELECT: _ClassVar[ParameterFormType]

class LogLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRACE: _ClassVar[LogLevel]
    DEBUG: _ClassVar[LogLevel]
    INFO: _ClassVar[LogLevel]
    WARN: _ClassVar[LogLevel]
    ERROR: _ClassVar[LogLevel]

class AppSharingLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OWNER: _ClassVar[AppSharingLevel]
    AUTHENTICATED: _ClassVar[AppSharingLevel]
    PUBLIC: _ClassVar[AppSharingLevel]

class AppOpenIn(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WINDOW: _ClassVar[AppOpenIn]
    SLIM_WINDOW: _ClassVar[AppOpenIn]
    TAB: _ClassVar[AppOpenIn]

class WorkspaceTransition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    START: _ClassVar[WorkspaceTransition]
    STOP: _ClassVar[WorkspaceTransition]
    DESTROY: _ClassVar[WorkspaceTransition]

class PrebuiltWorkspaceBuildStage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NONE: _ClassVar[PrebuiltWorkspaceBuildStage]
    CREATE: _ClassVar[PrebuiltWorkspaceBuildStage]
    CLAIM: _ClassVar[PrebuiltWorkspaceBuildStage]

class GraphSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_UNKNOWN: _ClassVar[GraphSource]
    SOURCE_PLAN: _ClassVar[GraphSource]
    SOURCE_STATE: _ClassVar[GraphSource]

class TimingState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STARTED: _ClassVar[TimingState]
    COMPLETED: _ClassVar[TimingState]
    FAILED: _ClassVar[TimingState]

class DataUploadType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPLOAD_TYPE_UNKNOWN: _ClassVar[DataUploadType]
    UPLOAD_TYPE_MODULE_FILES: _ClassVar[DataUploadType]
DEFAULT: ParameterFormType
FORM_ERROR: ParameterFormType
RADIO: ParameterFormType
DROPDOWN: ParameterFormType
INPUT: ParameterFormType
TEXTAREA: ParameterFormType
SLIDER: ParameterFormType
CHECKBOX: ParameterFormType
SWITCH: ParameterFormType
TAGSELECT: ParameterFormType
MULTISELECT: ParameterFormType
TRACE: LogLevel
DEBUG: LogLevel
INFO: LogLevel
WARN: LogLevel
ERROR: LogLevel
OWNER: AppSharingLevel
AUTHENTICATED: AppSharingLevel
PUBLIC: AppSharingLevel
WINDOW: AppOpenIn
SLIM_WINDOW: AppOpenIn
TAB: AppOpenIn
START: WorkspaceTransition
STOP: WorkspaceTransition
DESTROY: WorkspaceTransition
NONE: PrebuiltWorkspaceBuildStage
CREATE: PrebuiltWorkspaceBuildStage
CLAIM: PrebuiltWorkspaceBuildStage
SOURCE_UNKNOWN: GraphSource
SOURCE_PLAN: GraphSource
SOURCE_STATE: GraphSource
STARTED: TimingState
COMPLETED: TimingState
FAILED: TimingState
UPLOAD_TYPE_UNKNOWN: DataUploadType
UPLOAD_TYPE_MODULE_FILES: DataUploadType

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TemplateVariable(_message.Message):
    __slots__ = ("name", "description", "type", "default_value", "required", "sensitive")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    SENSITIVE_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    type: str
    default_value: str
    required: bool
    sensitive: bool
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., type: _Optional[str] = ..., default_value: _Optional[str] = ..., required: _Optional[bool] = ..., sensitive: _Optional[bool] = ...) -> None: ...

class RichParameterOption(_message.Message):
    __slots__ = ("name", "description", "value", "icon")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ICON_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    value: str
    icon: str
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., value: _Optional[str] = ..., icon: _Optional[str] = ...) -> None: ...

class RichParameter(_message.Message):
    __slots__ = ("name", "description", "type", "mutable", "default_value", "icon", "options", "validation_regex", "validation_error", "validation_min", "validation_max", "validation_monotonic", "required", "display_name", "order", "ephemeral", "form_type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MUTABLE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    ICON_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_REGEX_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_ERROR_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_MIN_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_MAX_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_MONOTONIC_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    EPHEMERAL_FIELD_NUMBER: _ClassVar[int]
    FORM_TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    type: str
    mutable: bool
    default_value: str
    icon: str
    options: _containers.RepeatedCompositeFieldContainer[RichParameterOption]
    validation_regex: str
    validation_error: str
    validation_min: int
    validation_max: int
    validation_monotonic: str
    required: bool
    display_name: str
    order: int
    ephemeral: bool
    form_type: ParameterFormType
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., type: _Optional[str] = ..., mutable: _Optional[bool] = ..., default_value: _Optional[str] = ..., icon: _Optional[str] = ..., options: _Optional[_Iterable[_Union[RichParameterOption, _Mapping]]] = ..., validation_regex: _Optional[str] = ..., validation_error: _Optional[str] = ..., validation_min: _Optional[int] = ..., validation_max: _Optional[int] = ..., validation_monotonic: _Optional[str] = ..., required: _Optional[bool] = ..., display_name: _Optional[str] = ..., order: _Optional[int] = ..., ephemeral: _Optional[bool] = ..., form_type: _Optional[_Union[ParameterFormType, str]] = ...) -> None: ...

class RichParameterValue(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class ExpirationPolicy(_message.Message):
    __slots__ = ("ttl",)
    TTL_FIELD_NUMBER: _ClassVar[int]
    ttl: int
    def __init__(self, ttl: _Optional[int] = ...) -> None: ...

class Schedule(_message.Message):
    __slots__ = ("cron", "instances")
    CRON_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    cron: str
    instances: int
    def __init__(self, cron: _Optional[str] = ..., instances: _Optional[int] = ...) -> None: ...

class Scheduling(_message.Message):
    __slots__ = ("timezone", "schedule")
    TIMEZONE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    timezone: str
    schedule: _containers.RepeatedCompositeFieldContainer[Schedule]
    def __init__(self, timezone: _Optional[str] = ..., schedule: _Optional[_Iterable[_Union[Schedule, _Mapping]]] = ...) -> None: ...

class Prebuild(_message.Message):
    __slots__ = ("instances", "expiration_policy", "scheduling")
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    EXPIRATION_POLICY_FIELD_NUMBER: _ClassVar[int]
    SCHEDULING_FIELD_NUMBER: _ClassVar[int]
    instances: int
    expiration_policy: ExpirationPolicy
    scheduling: Scheduling
    def __init__(self, instances: _Optional[int] = ..., expiration_policy: _Optional[_Union[ExpirationPolicy, _Mapping]] = ..., scheduling: _Optional[_Union[Scheduling, _Mapping]] = ...) -> None: ...

class PresetParameter(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Preset(_message.Message):
    __slots__ = ("name", "parameters", "prebuild", "default", "description", "icon")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    PREBUILD_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ICON_FIELD_NUMBER: _ClassVar[int]
    name: str
    parameters: _containers.RepeatedCompositeFieldContainer[PresetParameter]
    prebuild: Prebuild
    default: bool
    description: str
    icon: str
    def __init__(self, name: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[PresetParameter, _Mapping]]] = ..., prebuild: _Optional[_Union[Prebuild, _Mapping]] = ..., default: _Optional[bool] = ..., description: _Optional[str] = ..., icon: _Optional[str] = ...) -> None: ...

class ResourceReplacement(_message.Message):
    __slots__ = ("resource", "paths")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    resource: str
    paths: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, resource: _Optional[str] = ..., paths: _Optional[_Iterable[str]] = ...) -> None: ...

class VariableValue(_message.Message):
    __slots__ = ("name", "value", "sensitive")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SENSITIVE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    sensitive: bool
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., sensitive: _Optional[bool] = ...) -> None: ...

class Log(_message.Message):
    __slots__ = ("level", "output")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    level: LogLevel
    output: str
    def __init__(self, level: _Optional[_Union[LogLevel, str]] = ..., output: _Optional[str] = ...) -> None: ...

class InstanceIdentityAuth(_message.Message):
    __slots__ = ("instance_id",)
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    def __init__(self, instance_id: _Optional[str] = ...) -> None: ...

class ExternalAuthProviderResource(_message.Message):
    __slots__ = ("id", "optional")
    ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    optional: bool
    def __init__(self, id: _Optional[str] = ..., optional: _Optional[bool] = ...) -> None: ...

class ExternalAuthProvider(_message.Message):
    __slots__ = ("id", "access_token")
    ID_FIELD_NUMBER: _ClassVar[int]
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    id: str
    access_token: str
    def __init__(self, id: _Optional[str] = ..., access_token: _Optional[str] = ...) -> None: ...

class Agent(_message.Message):
    __slots__ = ("id", "name", "env", "operating_system", "architecture", "directory", "apps", "token", "instance_id", "connection_timeout_seconds", "troubleshooting_url", "motd_file", "metadata", "display_apps", "scripts", "extra_envs", "order", "resources_monitoring", "devcontainers", "api_key_scope")
    class Metadata(_message.Message):
        __slots__ = ("key", "display_name", "script", "interval", "timeout", "order")
        KEY_FIELD_NUMBER: _ClassVar[int]
        DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
        SCRIPT_FIELD_NUMBER: _ClassVar[int]
        INTERVAL_FIELD_NUMBER: _ClassVar[int]
        TIMEOUT_FIELD_NUMBER: _ClassVar[int]
        ORDER_FIELD_NUMBER: _ClassVar[int]
        key: str
        display_name: str
        script: str
        interval: int
        timeout: int
        order: int
        def __init__(self, key: _Optional[str] = ..., display_name: _Optional[str] = ..., script: _Optional[str] = ..., interval: _Optional[int] = ..., timeout: _Optional[int] = ..., order: _Optional[int] = ...) -> None: ...
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    OPERATING_SYSTEM_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    APPS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TROUBLESHOOTING_URL_FIELD_NUMBER: _ClassVar[int]
    MOTD_FILE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_APPS_FIELD_NUMBER: _ClassVar[int]
    SCRIPTS_FIELD_NUMBER: _ClassVar[int]
    EXTRA_ENVS_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_MONITORING_FIELD_NUMBER: _ClassVar[int]
    DEVCONTAINERS_FIELD_NUMBER: _ClassVar[int]
    API_KEY_SCOPE_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    env: _containers.ScalarMap[str, str]
    operating_system: str
    architecture: str
    directory: str
    apps: _containers.RepeatedCompositeFieldContainer[App]
    token: str
    instance_id: str
    connection_timeout_seconds: int
    troubleshooting_url: str
    motd_file: str
    metadata: _containers.RepeatedCompositeFieldContainer[Agent.Metadata]
    display_apps: DisplayApps
    scripts: _containers.RepeatedCompositeFieldContainer[Script]
    extra_envs: _containers.RepeatedCompositeFieldContainer[Env]
    order: int
    resources_monitoring: ResourcesMonitoring
    devcontainers: _containers.RepeatedCompositeFieldContainer[Devcontainer]
    api_key_scope: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., env: _Optional[_Mapping[str, str]] = ..., operating_system: _Optional[str] = ..., architecture: _Optional[str] = ..., directory: _Optional[str] = ..., apps: _Optional[_Iterable[_Union[App, _Mapping]]] = ..., token: _Optional[str] = ..., instance_id: _Optional[str] = ..., connection_timeout_seconds: _Optional[int] = ..., troubleshooting_url: _Optional[str] = ..., motd_file: _Optional[str] = ..., metadata: _Optional[_Iterable[_Union[Agent.Metadata, _Mapping]]] = ..., display_apps: _Optional[_Union[DisplayApps, _Mapping]] = ..., scripts: _Optional[_Iterable[_Union[Script, _Mapping]]] = ..., extra_envs: _Optional[_Iterable[_Union[Env, _Mapping]]] = ..., order: _Optional[int] = ..., resources_monitoring: _Optional[_Union[ResourcesMonitoring, _Mapping]] = ..., devcontainers: _Optional[_Iterable[_Union[Devcontainer, _Mapping]]] = ..., api_key_scope: _Optional[str] = ...) -> None: ...

class MemoryResourceMonitor(_message.Message):
    __slots__ = ("enabled", "threshold")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    threshold: int
    def __init__(self, enabled: _Optional[bool] = ..., threshold: _Optional[int] = ...) -> None: ...

class VolumeResourceMonitor(_message.Message):
    __slots__ = ("path", "enabled", "threshold")
    PATH_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    path: str
    enabled: bool
    threshold: int
    def __init__(self, path: _Optional[str] = ..., enabled: _Optional[bool] = ..., threshold: _Optional[int] = ...) -> None: ...

class ResourcesMonitoring(_message.Message):
    __slots__ = ("memory", "volumes")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    memory: MemoryResourceMonitor
    volumes: _containers.RepeatedCompositeFieldContainer[VolumeResourceMonitor]
    def __init__(self, memory: _Optional[_Union[MemoryResourceMonitor, _Mapping]] = ..., volumes: _Optional[_Iterable[_Union[VolumeResourceMonitor, _Mapping]]] = ...) -> None: ...

class DisplayApps(_message.Message):
    __slots__ = ("vscode", "vscode_insiders", "web_terminal", "ssh_helper", "port_forwarding_helper")
    VSCODE_FIELD_NUMBER: _ClassVar[int]
    VSCODE_INSIDERS_FIELD_NUMBER: _ClassVar[int]
    WEB_TERMINAL_FIELD_NUMBER: _ClassVar[int]
    SSH_HELPER_FIELD_NUMBER: _ClassVar[int]
    PORT_FORWARDING_HELPER_FIELD_NUMBER: _ClassVar[int]
    vscode: bool
    vscode_insiders: bool
    web_terminal: bool
    ssh_helper: bool
    port_forwarding_helper: bool
    def __init__(self, vscode: _Optional[bool] = ..., vscode_insiders: _Optional[bool] = ..., web_terminal: _Optional[bool] = ..., ssh_helper: _Optional[bool] = ..., port_forwarding_helper: _Optional[bool] = ...) -> None: ...

class Env(_message.Message):
    __slots__ = ("name", "value", "merge_strategy")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    MERGE_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    merge_strategy: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., merge_strategy: _Optional[str] = ...) -> None: ...

class Script(_message.Message):
    __slots__ = ("display_name", "icon", "script", "cron", "start_blocks_login", "run_on_start", "run_on_stop", "timeout_seconds", "log_path")
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    ICON_FIELD_NUMBER: _ClassVar[int]
    SCRIPT_FIELD_NUMBER: _ClassVar[int]
    CRON_FIELD_NUMBER: _ClassVar[int]
    START_BLOCKS_LOGIN_FIELD_NUMBER: _ClassVar[int]
    RUN_ON_START_FIELD_NUMBER: _ClassVar[int]
    RUN_ON_STOP_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LOG_PATH_FIELD_NUMBER: _ClassVar[int]
    display_name: str
    icon: str
    script: str
    cron: str
    start_blocks_login: bool
    run_on_start: bool
    run_on_stop: bool
    timeout_seconds: int
    log_path: str
    def __init__(self, display_name: _Optional[str] = ..., icon: _Optional[str] = ..., script: _Optional[str] = ..., cron: _Optional[str] = ..., start_blocks_login: _Optional[bool] = ..., run_on_start: _Optional[bool] = ..., run_on_stop: _Optional[bool] = ..., timeout_seconds: _Optional[int] = ..., log_path: _Optional[str] = ...) -> None: ...

class Devcontainer(_message.Message):
    __slots__ = ("workspace_folder", "config_path", "name", "id", "subagent_id", "apps", "scripts", "envs")
    WORKSPACE_FOLDER_FIELD_NUMBER: _ClassVar[int]
    CONFIG_PATH_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    SUBAGENT_ID_FIELD_NUMBER: _ClassVar[int]
    APPS_FIELD_NUMBER: _ClassVar[int]
    SCRIPTS_FIELD_NUMBER: _ClassVar[int]
    ENVS_FIELD_NUMBER: _ClassVar[int]
    workspace_folder: str
    config_path: str
    name: str
    id: str
    subagent_id: str
    apps: _containers.RepeatedCompositeFieldContainer[App]
    scripts: _containers.RepeatedCompositeFieldContainer[Script]
    envs: _containers.RepeatedCompositeFieldContainer[Env]
    def __init__(self, workspace_folder: _Optional[str] = ..., config_path: _Optional[str] = ..., name: _Optional[str] = ..., id: _Optional[str] = ..., subagent_id: _Optional[str] = ..., apps: _Optional[_Iterable[_Union[App, _Mapping]]] = ..., scripts: _Optional[_Iterable[_Union[Script, _Mapping]]] = ..., envs: _Optional[_Iterable[_Union[Env, _Mapping]]] = ...) -> None: ...

class Healthcheck(_message.Message):
    __slots__ = ("url", "interval", "threshold")
    URL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    url: str
    interval: int
    threshold: int
    def __init__(self, url: _Optional[str] = ..., interval: _Optional[int] = ..., threshold: _Optional[int] = ...) -> None: ...

class App(_message.Message):
    __slots__ = ("slug", "display_name", "command", "url", "icon", "subdomain", "healthcheck", "sharing_level", "external", "order", "hidden", "open_in", "group", "id", "tooltip")
    SLUG_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    ICON_FIELD_NUMBER: _ClassVar[int]
    SUBDOMAIN_FIELD_NUMBER: _ClassVar[int]
    HEALTHCHECK_FIELD_NUMBER: _ClassVar[int]
    SHARING_LEVEL_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    OPEN_IN_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    TOOLTIP_FIELD_NUMBER: _ClassVar[int]
    slug: str
    display_name: str
    command: str
    url: str
    icon: str
    subdomain: bool
    healthcheck: Healthcheck
    sharing_level: AppSharingLevel
    external: bool
    order: int
    hidden: bool
    open_in: AppOpenIn
    group: str
    id: str
    tooltip: str
    def __init__(self, slug: _Optional[str] = ..., display_name: _Optional[str] = ..., command: _Optional[str] = ..., url: _Optional[str] = ..., icon: _Optional[str] = ..., subdomain: _Optional[bool] = ..., healthcheck: _Optional[_Union[Healthcheck, _Mapping]] = ..., sharing_level: _Optional[_Union[AppSharingLevel, str]] = ..., external: _Optional[bool] = ..., order: _Optional[int] = ..., hidden: _Optional[bool] = ..., open_in: _Optional[_Union[AppOpenIn, str]] = ..., group: _Optional[str] = ..., id: _Optional[str] = ..., tooltip: _Optional[str] = ...) -> None: ...

class Resource(_message.Message):
    __slots__ = ("name", "type", "agents", "metadata", "hide", "icon", "instance_type", "daily_cost", "module_path")
    class Metadata(_message.Message):
        __slots__ = ("key", "value", "sensitive", "is_null")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        SENSITIVE_FIELD_NUMBER: _ClassVar[int]
        IS_NULL_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        sensitive: bool
        is_null: bool
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ..., sensitive: _Optional[bool] = ..., is_null: _Optional[bool] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    HIDE_FIELD_NUMBER: _ClassVar[int]
    ICON_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    DAILY_COST_FIELD_NUMBER: _ClassVar[int]
    MODULE_PATH_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    agents: _containers.RepeatedCompositeFieldContainer[Agent]
    metadata: _containers.RepeatedCompositeFieldContainer[Resource.Metadata]
    hide: bool
    icon: str
    instance_type: str
    daily_cost: int
    module_path: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., agents: _Optional[_Iterable[_Union[Agent, _Mapping]]] = ..., metadata: _Optional[_Iterable[_Union[Resource.Metadata, _Mapping]]] = ..., hide: _Optional[bool] = ..., icon: _Optional[str] = ..., instance_type: _Optional[str] = ..., daily_cost: _Optional[int] = ..., module_path: _Optional[str] = ...) -> None: ...

class Module(_message.Message):
    __slots__ = ("source", "version", "key", "dir")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    DIR_FIELD_NUMBER: _ClassVar[int]
    source: str
    version: str
    key: str
    dir: str
    def __init__(self, source: _Optional[str] = ..., version: _Optional[str] = ..., key: _Optional[str] = ..., dir: _Optional[str] = ...) -> None: ...

class Role(_message.Message):
    __slots__ = ("name", "org_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    org_id: str
    def __init__(self, name: _Optional[str] = ..., org_id: _Optional[str] = ...) -> None: ...

class RunningAgentAuthToken(_message.Message):
    __slots__ = ("agent_id", "token")
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    agent_id: str
    token: str
    def __init__(self, agent_id: _Optional[str] = ..., token: _Optional[str] = ...) -> None: ...

class AITaskSidebarApp(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class AITask(_message.Message):
    __slots__ = ("id", "sidebar_app", "app_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    SIDEBAR_APP_FIELD_NUMBER: _ClassVar[int]
    APP_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    sidebar_app: AITaskSidebarApp
    app_id: str
    def __init__(self, id: _Optional[str] = ..., sidebar_app: _Optional[_Union[AITaskSidebarApp, _Mapping]] = ..., app_id: _Optional[str] = ...) -> None: ...

class Metadata(_message.Message):
    __slots__ = ("coder_url", "workspace_transition", "workspace_name", "workspace_owner", "workspace_id", "workspace_owner_id", "workspace_owner_email", "template_name", "template_version", "workspace_owner_oidc_access_token", "workspace_owner_session_token", "template_id", "workspace_owner_name", "workspace_owner_groups", "workspace_owner_ssh_public_key", "workspace_owner_ssh_private_key", "workspace_build_id", "workspace_owner_login_type", "workspace_owner_rbac_roles", "prebuilt_workspace_build_stage", "running_agent_auth_tokens", "task_id", "task_prompt", "template_version_id", "template_version_modules_file")
    CODER_URL_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_TRANSITION_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_NAME_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_OWNER_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_ID_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_OWNER_EMAIL_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_NAME_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_OWNER_OIDC_ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_OWNER_SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_ID_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_OWNER_NAME_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_OWNER_GROUPS_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_OWNER_SSH_PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_OWNER_SSH_PRIVATE_KEY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_BUILD_ID_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_OWNER_LOGIN_TYPE_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_OWNER_RBAC_ROLES_FIELD_NUMBER: _ClassVar[int]
    PREBUILT_WORKSPACE_BUILD_STAGE_FIELD_NUMBER: _ClassVar[int]
    RUNNING_AGENT_AUTH_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_PROMPT_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_VERSION_MODULES_FILE_FIELD_NUMBER: _ClassVar[int]
    coder_url: str
    workspace_transition: WorkspaceTransition
    workspace_name: str
    workspace_owner: str
    workspace_id: str
    workspace_owner_id: str
    workspace_owner_email: str
    template_name: str
    template_version: str
    workspace_owner_oidc_access_token: str
    workspace_owner_session_token: str
    template_id: str
    workspace_owner_name: str
    workspace_owner_groups: _containers.RepeatedScalarFieldContainer[str]
    workspace_owner_ssh_public_key: str
    workspace_owner_ssh_private_key: str
    workspace_build_id: str
    workspace_owner_login_type: str
    workspace_owner_rbac_roles: _containers.RepeatedCompositeFieldContainer[Role]
    prebuilt_workspace_build_stage: PrebuiltWorkspaceBuildStage
    running_agent_auth_tokens: _containers.RepeatedCompositeFieldContainer[RunningAgentAuthToken]
    task_id: str
    task_prompt: str
    template_version_id: str
    template_version_modules_file: str
    def __init__(self, coder_url: _Optional[str] = ..., workspace_transition: _Optional[_Union[WorkspaceTransition, str]] = ..., workspace_name: _Optional[str] = ..., workspace_owner: _Optional[str] = ..., workspace_id: _Optional[str] = ..., workspace_owner_id: _Optional[str] = ..., workspace_owner_email: _Optional[str] = ..., template_name: _Optional[str] = ..., template_version: _Optional[str] = ..., workspace_owner_oidc_access_token: _Optional[str] = ..., workspace_owner_session_token: _Optional[str] = ..., template_id: _Optional[str] = ..., workspace_owner_name: _Optional[str] = ..., workspace_owner_groups: _Optional[_Iterable[str]] = ..., workspace_owner_ssh_public_key: _Optional[str] = ..., workspace_owner_ssh_private_key: _Optional[str] = ..., workspace_build_id: _Optional[str] = ..., workspace_owner_login_type: _Optional[str] = ..., workspace_owner_rbac_roles: _Optional[_Iterable[_Union[Role, _Mapping]]] = ..., prebuilt_workspace_build_stage: _Optional[_Union[PrebuiltWorkspaceBuildStage, str]] = ..., running_agent_auth_tokens: _Optional[_Iterable[_Union[RunningAgentAuthToken, _Mapping]]] = ..., task_id: _Optional[str] = ..., task_prompt: _Optional[str] = ..., template_version_id: _Optional[str] = ..., template_version_modules_file: _Optional[str] = ...) -> None: ...

class Config(_message.Message):
    __slots__ = ("provisioner_log_level", "template_id", "template_version_id")
    PROVISIONER_LOG_LEVEL_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_ID_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    provisioner_log_level: str
    template_id: str
    template_version_id: str
    def __init__(self, provisioner_log_level: _Optional[str] = ..., template_id: _Optional[str] = ..., template_version_id: _Optional[str] = ...) -> None: ...

class ParseRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ParseComplete(_message.Message):
    __slots__ = ("error", "template_variables", "readme", "workspace_tags")
    class WorkspaceTagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_VARIABLES_FIELD_NUMBER: _ClassVar[int]
    README_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_TAGS_FIELD_NUMBER: _ClassVar[int]
    error: str
    template_variables: _containers.RepeatedCompositeFieldContainer[TemplateVariable]
    readme: bytes
    workspace_tags: _containers.ScalarMap[str, str]
    def __init__(self, error: _Optional[str] = ..., template_variables: _Optional[_Iterable[_Union[TemplateVariable, _Mapping]]] = ..., readme: _Optional[bytes] = ..., workspace_tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class InitRequest(_message.Message):
    __slots__ = ("template_source_archive", "omit_module_files", "initial_module_tar_hash")
    TEMPLATE_SOURCE_ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    OMIT_MODULE_FILES_FIELD_NUMBER: _ClassVar[int]
    INITIAL_MODULE_TAR_HASH_FIELD_NUMBER: _ClassVar[int]
    template_source_archive: bytes
    omit_module_files: bool
    initial_module_tar_hash: bytes
    def __init__(self, template_source_archive: _Optional[bytes] = ..., omit_module_files: _Optional[bool] = ..., initial_module_tar_hash: _Optional[bytes] = ...) -> None: ...

class InitComplete(_message.Message):
    __slots__ = ("error", "timings", "modules", "module_files", "module_files_hash")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    MODULES_FIELD_NUMBER: _ClassVar[int]
    MODULE_FILES_FIELD_NUMBER: _ClassVar[int]
    MODULE_FILES_HASH_FIELD_NUMBER: _ClassVar[int]
    error: str
    timings: _containers.RepeatedCompositeFieldContainer[Timing]
    modules: _containers.RepeatedCompositeFieldContainer[Module]
    module_files: bytes
    module_files_hash: bytes
    def __init__(self, error: _Optional[str] = ..., timings: _Optional[_Iterable[_Union[Timing, _Mapping]]] = ..., modules: _Optional[_Iterable[_Union[Module, _Mapping]]] = ..., module_files: _Optional[bytes] = ..., module_files_hash: _Optional[bytes] = ...) -> None: ...

class PlanRequest(_message.Message):
    __slots__ = ("metadata", "rich_parameter_values", "variable_values", "external_auth_providers", "previous_parameter_values", "state")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    RICH_PARAMETER_VALUES_FIELD_NUMBER: _ClassVar[int]
    VARIABLE_VALUES_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_AUTH_PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_PARAMETER_VALUES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    metadata: Metadata
    rich_parameter_values: _containers.RepeatedCompositeFieldContainer[RichParameterValue]
    variable_values: _containers.RepeatedCompositeFieldContainer[VariableValue]
    external_auth_providers: _containers.RepeatedCompositeFieldContainer[ExternalAuthProvider]
    previous_parameter_values: _containers.RepeatedCompositeFieldContainer[RichParameterValue]
    state: bytes
    def __init__(self, metadata: _Optional[_Union[Metadata, _Mapping]] = ..., rich_parameter_values: _Optional[_Iterable[_Union[RichParameterValue, _Mapping]]] = ..., variable_values: _Optional[_Iterable[_Union[VariableValue, _Mapping]]] = ..., external_auth_providers: _Optional[_Iterable[_Union[ExternalAuthProvider, _Mapping]]] = ..., previous_parameter_values: _Optional[_Iterable[_Union[RichParameterValue, _Mapping]]] = ..., state: _Optional[bytes] = ...) -> None: ...

class PlanComplete(_message.Message):
    __slots__ = ("error", "timings", "plan", "dailyCost", "resource_replacements", "ai_task_count")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    DAILYCOST_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_REPLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    AI_TASK_COUNT_FIELD_NUMBER: _ClassVar[int]
    error: str
    timings: _containers.RepeatedCompositeFieldContainer[Timing]
    plan: bytes
    dailyCost: int
    resource_replacements: _containers.RepeatedCompositeFieldContainer[ResourceReplacement]
    ai_task_count: int
    def __init__(self, error: _Optional[str] = ..., timings: _Optional[_Iterable[_Union[Timing, _Mapping]]] = ..., plan: _Optional[bytes] = ..., dailyCost: _Optional[int] = ..., resource_replacements: _Optional[_Iterable[_Union[ResourceReplacement, _Mapping]]] = ..., ai_task_count: _Optional[int] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("metadata",)
    METADATA_FIELD_NUMBER: _ClassVar[int]
    metadata: Metadata
    def __init__(self, metadata: _Optional[_Union[Metadata, _Mapping]] = ...) -> None: ...

class ApplyComplete(_message.Message):
    __slots__ = ("state", "error", "timings")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    state: bytes
    error: str
    timings: _containers.RepeatedCompositeFieldContainer[Timing]
    def __init__(self, state: _Optional[bytes] = ..., error: _Optional[str] = ..., timings: _Optional[_Iterable[_Union[Timing, _Mapping]]] = ...) -> None: ...

class GraphRequest(_message.Message):
    __slots__ = ("metadata", "source")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    metadata: Metadata
    source: GraphSource
    def __init__(self, metadata: _Optional[_Union[Metadata, _Mapping]] = ..., source: _Optional[_Union[GraphSource, str]] = ...) -> None: ...

class GraphComplete(_message.Message):
    __slots__ = ("error", "timings", "resources", "parameters", "external_auth_providers", "presets", "has_ai_tasks", "ai_tasks", "has_external_agents")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_AUTH_PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    PRESETS_FIELD_NUMBER: _ClassVar[int]
    HAS_AI_TASKS_FIELD_NUMBER: _ClassVar[int]
    AI_TASKS_FIELD_NUMBER: _ClassVar[int]
    HAS_EXTERNAL_AGENTS_FIELD_NUMBER: _ClassVar[int]
    error: str
    timings: _containers.RepeatedCompositeFieldContainer[Timing]
    resources: _containers.RepeatedCompositeFieldContainer[Resource]
    parameters: _containers.RepeatedCompositeFieldContainer[RichParameter]
    external_auth_providers: _containers.RepeatedCompositeFieldContainer[ExternalAuthProviderResource]
    presets: _containers.RepeatedCompositeFieldContainer[Preset]
    has_ai_tasks: bool
    ai_tasks: _containers.RepeatedCompositeFieldContainer[AITask]
    has_external_agents: bool
    def __init__(self, error: _Optional[str] = ..., timings: _Optional[_Iterable[_Union[Timing, _Mapping]]] = ..., resources: _Optional[_Iterable[_Union[Resource, _Mapping]]] = ..., parameters: _Optional[_Iterable[_Union[RichParameter, _Mapping]]] = ..., external_auth_providers: _Optional[_Iterable[_Union[ExternalAuthProviderResource, _Mapping]]] = ..., presets: _Optional[_Iterable[_Union[Preset, _Mapping]]] = ..., has_ai_tasks: _Optional[bool] = ..., ai_tasks: _Optional[_Iterable[_Union[AITask, _Mapping]]] = ..., has_external_agents: _Optional[bool] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("start", "end", "action", "source", "resource", "stage", "state")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    start: _timestamp_pb2.Timestamp
    end: _timestamp_pb2.Timestamp
    action: str
    source: str
    resource: str
    stage: str
    state: TimingState
    def __init__(self, start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., action: _Optional[str] = ..., source: _Optional[str] = ..., resource: _Optional[str] = ..., stage: _Optional[str] = ..., state: _Optional[_Union[TimingState, str]] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Request(_message.Message):
    __slots__ = ("config", "parse", "init", "plan", "apply", "graph", "cancel", "file")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    PARSE_FIELD_NUMBER: _ClassVar[int]
    INIT_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    APPLY_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    config: Config
    parse: ParseRequest
    init: InitRequest
    plan: PlanRequest
    apply: ApplyRequest
    graph: GraphRequest
    cancel: CancelRequest
    file: FileUpload
    def __init__(self, config: _Optional[_Union[Config, _Mapping]] = ..., parse: _Optional[_Union[ParseRequest, _Mapping]] = ..., init: _Optional[_Union[InitRequest, _Mapping]] = ..., plan: _Optional[_Union[PlanRequest, _Mapping]] = ..., apply: _Optional[_Union[ApplyRequest, _Mapping]] = ..., graph: _Optional[_Union[GraphRequest, _Mapping]] = ..., cancel: _Optional[_Union[CancelRequest, _Mapping]] = ..., file: _Optional[_Union[FileUpload, _Mapping]] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("log", "parse", "init", "plan", "apply", "graph", "data_upload", "chunk_piece")
    LOG_FIELD_NUMBER: _ClassVar[int]
    PARSE_FIELD_NUMBER: _ClassVar[int]
    INIT_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    APPLY_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    DATA_UPLOAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_PIECE_FIELD_NUMBER: _ClassVar[int]
    log: Log
    parse: ParseComplete
    init: InitComplete
    plan: PlanComplete
    apply: ApplyComplete
    graph: GraphComplete
    data_upload: DataUpload
    chunk_piece: ChunkPiece
    def __init__(self, log: _Optional[_Union[Log, _Mapping]] = ..., parse: _Optional[_Union[ParseComplete, _Mapping]] = ..., init: _Optional[_Union[InitComplete, _Mapping]] = ..., plan: _Optional[_Union[PlanComplete, _Mapping]] = ..., apply: _Optional[_Union[ApplyComplete, _Mapping]] = ..., graph: _Optional[_Union[GraphComplete, _Mapping]] = ..., data_upload: _Optional[_Union[DataUpload, _Mapping]] = ..., chunk_piece: _Optional[_Union[ChunkPiece, _Mapping]] = ...) -> None: ...

class DataUpload(_message.Message):
    __slots__ = ("upload_type", "data_hash", "file_size", "chunks")
    UPLOAD_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_HASH_FIELD_NUMBER: _ClassVar[int]
    FILE_SIZE_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    upload_type: DataUploadType
    data_hash: bytes
    file_size: int
    chunks: int
    def __init__(self, upload_type: _Optional[_Union[DataUploadType, str]] = ..., data_hash: _Optional[bytes] = ..., file_size: _Optional[int] = ..., chunks: _Optional[int] = ...) -> None: ...

class ChunkPiece(_message.Message):
    __slots__ = ("data", "full_data_hash", "piece_index")
    DATA_FIELD_NUMBER: _ClassVar[int]
    FULL_DATA_HASH_FIELD_NUMBER: _ClassVar[int]
    PIECE_INDEX_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    full_data_hash: bytes
    piece_index: int
    def __init__(self, data: _Optional[bytes] = ..., full_data_hash: _Optional[bytes] = ..., piece_index: _Optional[int] = ...) -> None: ...

class FailedFile(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: str
    def __init__(self, error: _Optional[str] = ...) -> None: ...

class FileUpload(_message.Message):
    __slots__ = ("data_upload", "chunk_piece", "error")
    DATA_UPLOAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_PIECE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    data_upload: DataUpload
    chunk_piece: ChunkPiece
    error: FailedFile
    def __init__(self, data_upload: _Optional[_Union[DataUpload, _Mapping]] = ..., chunk_piece: _Optional[_Union[ChunkPiece, _Mapping]] = ..., error: _Optional[_Union[FailedFile, _Mapping]] = ...) -> None: ...
