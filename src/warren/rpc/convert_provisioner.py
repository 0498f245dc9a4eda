"""What provisioners report, from their messages to values of the domain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from google.protobuf import timestamp_pb2

from warren.domain.job import LogLevel, LogLine, LogSource
from warren.domain.parameter import Option, Parameter, Preset, Variable
from warren.domain.resource import (
    Agent,
    App,
    Env,
    MetadataItem,
    Module,
    ReportedResource,
    ResourceMetadata,
    Script,
)
from warren.domain.template import ExternalAuthProvider
from warren.errors import Invalid
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd

_FORM_TYPES = {
    pb.ParameterFormType.DEFAULT: "",
    pb.ParameterFormType.FORM_ERROR: "error",
    pb.ParameterFormType.RADIO: "radio",
    pb.ParameterFormType.DROPDOWN: "dropdown",
    pb.ParameterFormType.INPUT: "input",
    pb.ParameterFormType.TEXTAREA: "textarea",
    pb.ParameterFormType.SLIDER: "slider",
    pb.ParameterFormType.CHECKBOX: "checkbox",
    pb.ParameterFormType.SWITCH: "switch",
    pb.ParameterFormType.TAGSELECT: "tag-select",
    pb.ParameterFormType.MULTISELECT: "multi-select",
}
_LEVELS = {
    pb.LogLevel.TRACE: LogLevel.TRACE,
    pb.LogLevel.DEBUG: LogLevel.DEBUG,
    pb.LogLevel.INFO: LogLevel.INFO,
    pb.LogLevel.WARN: LogLevel.WARN,
    pb.LogLevel.ERROR: LogLevel.ERROR,
}
_SHARING = {
    pb.AppSharingLevel.OWNER: "owner",
    pb.AppSharingLevel.AUTHENTICATED: "authenticated",
    pb.AppSharingLevel.PUBLIC: "public",
}
_OPEN_IN = {pb.AppOpenIn.WINDOW: "window", pb.AppOpenIn.SLIM_WINDOW: "slim-window", pb.AppOpenIn.TAB: "tab"}
# The order in which display apps are stored and shown.
_DISPLAY_APPS = ("vscode", "vscode_insiders", "ssh_helper", "port_forwarding_helper", "web_terminal")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def log_lines(messages: Iterable[pbd.Log]) -> Sequence[LogLine]:
    """Read lines of a job's log."""
    return [
        LogLine(
            EPOCH + timedelta(milliseconds=message.created_at),
            LogSource.PROVISIONER if message.source == pbd.LogSource.PROVISIONER else LogSource.DAEMON,
            _LEVELS.get(message.level, LogLevel.INFO),
            message.stage,
            message.output,
        )
        for message in messages
    ]


def parameters(messages: Iterable[pb.RichParameter]) -> Sequence[Parameter]:
    """Read the parameters of a template."""
    return [
        Parameter(
            name=message.name,
            type=message.type,
            mutable=message.mutable,
            required=message.required,
            display_name=message.display_name,
            description=message.description,
            form_type=_FORM_TYPES.get(message.form_type, ""),
            default_value=message.default_value,
            icon=message.icon,
            options=tuple(
                Option(option.name, option.value, option.description, option.icon) for option in message.options
            ),
            validation_regex=message.validation_regex,
            validation_error=message.validation_error,
            validation_min=message.validation_min if message.HasField("validation_min") else None,
            validation_max=message.validation_max if message.HasField("validation_max") else None,
            validation_monotonic=message.validation_monotonic,
            ephemeral=message.ephemeral,
            display_order=message.order,
        )
        for message in messages
    ]


def presets(messages: Iterable[pb.Preset]) -> Sequence[Preset]:
    """Read the presets of a template."""
    return [
        Preset(
            id=uuid4(),
            name=message.name,
            description=message.description,
            icon=message.icon,
            is_default=message.default,
            desired_prebuilds=message.prebuild.instances,
            parameters={item.name: item.value for item in message.parameters},
        )
        for message in messages
    ]


def variables(messages: Iterable[pb.TemplateVariable], values: dict[str, str]) -> Sequence[Variable]:
    """Read the variables of a template; a value that was given wins over the default, an empty one too."""
    return [
        Variable(
            name=message.name,
            description=message.description,
            type=message.type,
            value=values.get(message.name, message.default_value),
            default_value=message.default_value,
            required=message.required,
            sensitive=message.sensitive,
        )
        for message in messages
    ]


def external_auth(messages: Iterable[pb.ExternalAuthProviderResource]) -> Sequence[ExternalAuthProvider]:
    """Read which third parties a template needs."""
    return [ExternalAuthProvider(message.id, message.optional) for message in messages]


def modules(messages: Iterable[pb.Module]) -> Sequence[Module]:
    """Read which modules a template uses."""
    return [Module(message.source, message.version, message.key) for message in messages]


def resources(messages: Iterable[pb.Resource]) -> Sequence[ReportedResource]:
    """Read the resources of a plan or a state."""
    return [
        ReportedResource(
            type=message.type,
            name=message.name,
            hide=message.hide,
            icon=message.icon,
            instance_type=message.instance_type,
            module_path=message.module_path,
            daily_cost=message.daily_cost,
            metadata=[
                ResourceMetadata(item.key, item.value, item.sensitive) for item in message.metadata if not item.is_null
            ],
            agents=[_agent(agent) for agent in message.agents],
        )
        for message in messages
    ]


def _agent(message: pb.Agent) -> Agent:
    return Agent(
        name=message.name,
        token=message.token,
        instance_id=message.instance_id,
        operating_system=message.operating_system,
        architecture=message.architecture,
        directory=message.directory,
        env=dict(message.env),
        extra_envs=[Env(env.name, env.value, env.merge_strategy) for env in message.extra_envs],
        motd_file=message.motd_file,
        connection_timeout_seconds=message.connection_timeout_seconds,
        troubleshooting_url=message.troubleshooting_url,
        display_apps=[name for name in _DISPLAY_APPS if getattr(message.display_apps, name)],
        display_order=message.order,
        api_key_scope=message.api_key_scope,
        resources_monitoring=_monitoring(message),
        apps=[_app(app) for app in message.apps],
        scripts=[
            Script(
                display_name=script.display_name,
                icon=script.icon,
                script=script.script,
                cron=script.cron,
                log_path=script.log_path,
                start_blocks_login=script.start_blocks_login,
                run_on_start=script.run_on_start,
                run_on_stop=script.run_on_stop,
                timeout_seconds=script.timeout_seconds,
            )
            for script in message.scripts
        ],
        metadata=[
            MetadataItem(item.key, item.display_name, item.script, item.interval, item.timeout, item.order)
            for item in message.metadata
        ],
    )


def _monitoring(message: pb.Agent) -> dict[str, object] | None:
    if not message.HasField("resources_monitoring"):
        return None
    found = message.resources_monitoring
    memory = {"enabled": found.memory.enabled, "threshold": found.memory.threshold}
    return {
        "memory": memory if found.HasField("memory") else None,
        "volumes": [
            {"path": volume.path, "enabled": volume.enabled, "threshold": volume.threshold} for volume in found.volumes
        ],
    }


def _app(message: pb.App) -> App:
    return App(
        id=_uuid(message.id),
        slug=message.slug,
        display_name=message.display_name,
        icon=message.icon,
        command=message.command,
        url=message.url,
        external=message.external,
        subdomain=message.subdomain,
        sharing_level=_SHARING.get(message.sharing_level, "owner"),
        healthcheck_url=message.healthcheck.url,
        healthcheck_interval=message.healthcheck.interval,
        healthcheck_threshold=message.healthcheck.threshold,
        display_order=message.order,
        display_group=message.group,
        hidden=message.hidden,
        open_in=_OPEN_IN.get(message.open_in, "slim-window"),
        tooltip=message.tooltip,
    )


def _uuid(text: str) -> UUID:
    if not text:
        return uuid4()
    try:
        return UUID(text)
    except ValueError as error:
        raise Invalid(f"app id must be uuid: {text!r}") from error


def moment(message: timestamp_pb2.Timestamp) -> datetime:
    """Read a time."""
    return EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
