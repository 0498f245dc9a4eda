"""Between the provisioner's own values and the messages of its protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from warren.provisioner.model import (
    Agent,
    AITask,
    App,
    AppWindow,
    BuildMetadata,
    Devcontainer,
    Env,
    ExternalAuth,
    InstanceAuth,
    Level,
    Module,
    Monitor,
    PrebuildStage,
    Preset,
    Replacement,
    Resource,
    RichParameter,
    Role,
    Script,
    Sharing,
    TemplateVariable,
    Timing,
    TimingState,
    TokenAuth,
    Transition,
    VariableValue,
)
from warren.rpc._pb import provisioner_pb2 as pb

_TRANSITIONS: Mapping[pb.WorkspaceTransition, Transition] = MappingProxyType(
    {
        pb.START: Transition.START,
        pb.STOP: Transition.STOP,
        pb.DESTROY: Transition.DESTROY,
    }
)
_STAGES: Mapping[pb.PrebuiltWorkspaceBuildStage, PrebuildStage] = MappingProxyType(
    {
        pb.NONE: PrebuildStage.NONE,
        pb.CREATE: PrebuildStage.CREATE,
        pb.CLAIM: PrebuildStage.CLAIM,
    }
)
LEVELS: Mapping[Level, pb.LogLevel] = MappingProxyType(
    {
        Level.TRACE: pb.TRACE,
        Level.DEBUG: pb.DEBUG,
        Level.INFO: pb.INFO,
        Level.WARN: pb.WARN,
        Level.ERROR: pb.ERROR,
    }
)
_TIMING_STATES: Mapping[TimingState, pb.TimingState] = MappingProxyType(
    {
        TimingState.STARTED: pb.STARTED,
        TimingState.COMPLETED: pb.COMPLETED,
        TimingState.FAILED: pb.FAILED,
    }
)
_FORM_TYPES: Mapping[str, pb.ParameterFormType] = MappingProxyType(
    {
        "": pb.DEFAULT,
        "error": pb.FORM_ERROR,
        "radio": pb.RADIO,
        "dropdown": pb.DROPDOWN,
        "input": pb.INPUT,
        "textarea": pb.TEXTAREA,
        "slider": pb.SLIDER,
        "checkbox": pb.CHECKBOX,
        "switch": pb.SWITCH,
        "tag-select": pb.TAGSELECT,
        "multi-select": pb.MULTISELECT,
    }
)
_SHARING: Mapping[Sharing, pb.AppSharingLevel] = MappingProxyType(
    {
        Sharing.OWNER: pb.OWNER,
        Sharing.AUTHENTICATED: pb.AUTHENTICATED,
        Sharing.PUBLIC: pb.PUBLIC,
    }
)
_OPEN_IN: Mapping[AppWindow, pb.AppOpenIn] = MappingProxyType(
    {
        AppWindow.WINDOW: pb.WINDOW,
        AppWindow.SLIM_WINDOW: pb.SLIM_WINDOW,
        AppWindow.TAB: pb.TAB,
    }
)


def metadata_from(message: pb.Metadata) -> BuildMetadata:
    """Read what a build is about."""
    return BuildMetadata(
        access_url=message.coder_url,
        transition=_TRANSITIONS[message.workspace_transition],
        workspace_id=message.workspace_id,
        workspace_name=message.workspace_name,
        workspace_build_id=message.workspace_build_id,
        owner_id=message.workspace_owner_id,
        owner=message.workspace_owner,
        owner_name=message.workspace_owner_name,
        owner_email=message.workspace_owner_email,
        owner_groups=tuple(message.workspace_owner_groups),
        owner_roles=tuple(Role(role.name, role.org_id) for role in message.workspace_owner_rbac_roles),
        owner_login_type=message.workspace_owner_login_type,
        owner_ssh_public_key=message.workspace_owner_ssh_public_key,
        owner_ssh_private_key=message.workspace_owner_ssh_private_key,
        owner_session_token=message.workspace_owner_session_token,
        owner_oidc_access_token=message.workspace_owner_oidc_access_token,
        template_id=message.template_id,
        template_name=message.template_name,
        template_version=message.template_version,
        template_version_id=message.template_version_id,
        prebuild_stage=_STAGES[message.prebuilt_workspace_build_stage],
        running_agent_tokens={token.agent_id: token.token for token in message.running_agent_auth_tokens},
        task_id=message.task_id,
        task_prompt=message.task_prompt,
        modules_file=message.template_version_modules_file,
    )


def parameters_from(messages: Iterable[pb.RichParameterValue]) -> dict[str, str]:
    """Read parameter values."""
    return {message.name: message.value for message in messages}


def variables_from(messages: Iterable[pb.VariableValue]) -> tuple[VariableValue, ...]:
    """Read the values of template variables."""
    return tuple(VariableValue(message.name, message.value, message.sensitive) for message in messages)


def variable(value: TemplateVariable) -> pb.TemplateVariable:
    """Write a template variable."""
    return pb.TemplateVariable(
        name=value.name,
        description=value.description,
        type=value.type,
        default_value=value.default,
        required=value.required,
        sensitive=value.sensitive,
    )


def timing(value: Timing) -> pb.Timing:
    """Write a timing."""
    message = pb.Timing(
        action=value.action,
        source=value.source,
        resource=value.resource,
        stage=value.stage,
        state=_TIMING_STATES[value.state],
    )
    message.start.FromDatetime(value.started_at)
    message.end.FromDatetime(value.ended_at)
    return message


def module(value: Module) -> pb.Module:
    """Write a module."""
    return pb.Module(source=value.source, version=value.version, key=value.key)


def replacement(value: Replacement) -> pb.ResourceReplacement:
    """Write a replacement."""
    return pb.ResourceReplacement(resource=value.resource, paths=value.paths)


def resource(value: Resource) -> pb.Resource:
    """Write a resource with its agents."""
    return pb.Resource(
        name=value.name,
        type=value.type,
        agents=[agent(item) for item in value.agents],
        metadata=[
            pb.Resource.Metadata(key=item.key, value=item.value, sensitive=item.sensitive, is_null=item.is_null)
            for item in value.metadata
        ],
        hide=value.hide,
        icon=value.icon,
        instance_type=value.instance_type,
        daily_cost=value.daily_cost,
        module_path=value.module_path,
    )


def agent(value: Agent) -> pb.Agent:
    """Write an agent."""
    message = pb.Agent(
        id=value.id,
        name=value.name,
        env=dict(value.env),
        operating_system=value.operating_system,
        architecture=value.architecture,
        directory=value.directory,
        apps=[app(item) for item in value.apps],
        connection_timeout_seconds=value.connection_timeout_seconds,
        troubleshooting_url=value.troubleshooting_url,
        motd_file=value.motd_file,
        metadata=[
            pb.Agent.Metadata(
                key=item.key,
                display_name=item.display_name,
                script=item.script,
                interval=item.interval_seconds,
                timeout=item.timeout_seconds,
                order=item.order,
            )
            for item in value.metadata
        ],
        display_apps=pb.DisplayApps(
            vscode=value.display_apps.vscode,
            vscode_insiders=value.display_apps.vscode_insiders,
            web_terminal=value.display_apps.web_terminal,
            ssh_helper=value.display_apps.ssh_helper,
            port_forwarding_helper=value.display_apps.port_forwarding_helper,
        ),
        scripts=[script(item) for item in value.scripts],
        extra_envs=[env(item) for item in value.extra_envs],
        order=value.order,
        resources_monitoring=_monitoring(value.memory_monitor, value.volume_monitors),
        devcontainers=[devcontainer(item) for item in value.devcontainers],
        api_key_scope=value.api_key_scope,
    )
    match value.auth:
        case TokenAuth(token):
            message.token = token
        case InstanceAuth(instance_id):
            message.instance_id = instance_id
    return message


def _monitoring(memory: Monitor | None, volumes: Iterable[Monitor]) -> pb.ResourcesMonitoring:
    return pb.ResourcesMonitoring(
        memory=None if memory is None else pb.MemoryResourceMonitor(enabled=memory.enabled, threshold=memory.threshold),
        volumes=[
            pb.VolumeResourceMonitor(path=item.path, enabled=item.enabled, threshold=item.threshold) for item in volumes
        ],
    )


def app(value: App) -> pb.App:
    """Write an app."""
    check = value.healthcheck
    return pb.App(
        slug=value.slug,
        display_name=value.display_name,
        command=value.command,
        url=value.url,
        icon=value.icon,
        subdomain=value.subdomain,
        healthcheck=None
        if check is None
        else pb.Healthcheck(url=check.url, interval=check.interval_seconds, threshold=check.threshold),
        sharing_level=_SHARING[value.sharing],
        external=value.external,
        order=value.order,
        hidden=value.hidden,
        open_in=_OPEN_IN[value.open_in],
        group=value.group,
        id=value.id,
        tooltip=value.tooltip,
    )


def script(value: Script) -> pb.Script:
    """Write a script."""
    return pb.Script(
        display_name=value.display_name,
        icon=value.icon,
        script=value.script,
        cron=value.cron,
        start_blocks_login=value.start_blocks_login,
        run_on_start=value.run_on_start,
        run_on_stop=value.run_on_stop,
        timeout_seconds=value.timeout_seconds,
        log_path=value.log_path,
    )


def env(value: Env) -> pb.Env:
    """Write a variable of an agent's environment."""
    return pb.Env(name=value.name, value=value.value, merge_strategy=value.merge_strategy)


def devcontainer(value: Devcontainer) -> pb.Devcontainer:
    """Write a dev container."""
    return pb.Devcontainer(
        workspace_folder=value.workspace_folder,
        config_path=value.config_path,
        name=value.name,
        id=value.id,
        subagent_id=value.subagent_id,
        apps=[app(item) for item in value.apps],
        scripts=[script(item) for item in value.scripts],
        envs=[env(item) for item in value.envs],
    )


def parameter(value: RichParameter) -> pb.RichParameter:
    """Write a parameter."""
    message = pb.RichParameter(
        name=value.name,
        display_name=value.display_name,
        description=value.description,
        type=value.type,
        form_type=_FORM_TYPES[value.form_type],
        mutable=value.mutable,
        default_value=value.default,
        icon=value.icon,
        options=[
            pb.RichParameterOption(
                name=option.name, description=option.description, value=option.value, icon=option.icon
            )
            for option in value.options
        ],
        validation_regex=value.validation_regex,
        validation_error=value.validation_error,
        validation_monotonic=value.validation_monotonic,
        required=value.required,
        order=value.order,
        ephemeral=value.ephemeral,
    )
    if value.validation_min is not None:
        message.validation_min = value.validation_min
    if value.validation_max is not None:
        message.validation_max = value.validation_max
    return message


def preset(value: Preset) -> pb.Preset:
    """Write a preset."""
    prebuild = pb.Prebuild(instances=value.prebuild.instances)
    if value.prebuild.ttl_seconds:
        prebuild.expiration_policy.ttl = value.prebuild.ttl_seconds
    if value.prebuild.timezone:
        prebuild.scheduling.timezone = value.prebuild.timezone
        prebuild.scheduling.schedule.extend(
            pb.Schedule(cron=item.cron, instances=item.instances) for item in value.prebuild.schedules
        )
    return pb.Preset(
        name=value.name,
        parameters=[pb.PresetParameter(name=name, value=given) for name, given in sorted(value.parameters.items())],
        prebuild=prebuild,
        default=value.default,
        description=value.description,
        icon=value.icon,
    )


def external_auth(value: ExternalAuth) -> pb.ExternalAuthProviderResource:
    """Write an external service that a template needs."""
    return pb.ExternalAuthProviderResource(id=value.id, optional=value.optional)


def ai_task(value: AITask) -> pb.AITask:
    """Write a task."""
    message = pb.AITask(id=value.id, app_id=value.app_id)
    if value.sidebar_app_id:
        message.sidebar_app.id = value.sidebar_app_id
    return message
