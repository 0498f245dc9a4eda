"""Read single `coder_*` blocks out of Terraform's values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from warren.errors import Invalid
from warren.provisioner.coder_provider.values import Object, blocks, number, strings, text, truth
from warren.provisioner.model import (
    Agent,
    AgentMetadata,
    App,
    AppWindow,
    Devcontainer,
    DisplayApps,
    Env,
    Healthcheck,
    InstanceAuth,
    MetadataItem,
    Monitor,
    ParameterOption,
    Prebuild,
    PrebuildSchedule,
    Preset,
    RichParameter,
    Script,
    Sharing,
    TokenAuth,
)
from warren.provisioner.planned import Instance

_FORM_TYPES = frozenset({
    "", "radio", "dropdown", "input", "textarea", "slider", "checkbox", "switch", "tag-select", "multi-select", "error",
})  # fmt: skip
_INT32 = 2**31 - 1

_Choice = TypeVar("_Choice", Sharing, AppWindow)


def agent(item: Instance) -> Agent:
    """Read a `coder_agent`."""
    values = item.values
    token = values.get("auth", "token") in ("token", "")
    memory, volumes = _monitors(values)
    return Agent(
        id=text(values.get("id")),
        name=item.name,
        auth=TokenAuth(text(values.get("token"))) if token else InstanceAuth(""),
        operating_system=text(values.get("os")),
        architecture=text(values.get("arch")),
        directory=text(values.get("dir")),
        env=strings(values.get("env")),
        connection_timeout_seconds=number(values.get("connection_timeout")),
        troubleshooting_url=text(values.get("troubleshooting_url")),
        motd_file=text(values.get("motd_file")),
        order=number(values.get("order")),
        api_key_scope=text(values.get("api_key_scope")),
        metadata=tuple(_agent_metadata(block) for block in blocks(values.get("metadata"))),
        display_apps=_display_apps(values),
        memory_monitor=memory,
        volume_monitors=volumes,
        scripts=tuple(_inline_scripts(values)),
    )


def app(item: Instance) -> App:
    """Read a `coder_app`."""
    values = item.values
    slug = text(values.get("slug")) or item.name
    checks = blocks(values.get("healthcheck"))
    return App(
        id=text(values.get("id")),
        slug=slug,
        display_name=text(values.get("display_name")) or text(values.get("name")) or slug,
        command=text(values.get("command")),
        url=text(values.get("url")),
        icon=text(values.get("icon")),
        subdomain=truth(values.get("subdomain")),
        healthcheck=_healthcheck(checks[0]) if checks else None,
        sharing=_choice(Sharing, text(values.get("share")), Sharing.OWNER),
        external=truth(values.get("external")),
        order=number(values.get("order")),
        hidden=truth(values.get("hidden")),
        open_in=_choice(AppWindow, text(values.get("open_in")), AppWindow.SLIM_WINDOW),
        group=text(values.get("group")),
        tooltip=text(values.get("tooltip")),
    )


def script(item: Instance) -> Script:
    """Read a `coder_script`."""
    values = item.values
    return Script(
        display_name=text(values.get("display_name")),
        script=text(values.get("script")),
        icon=text(values.get("icon")),
        cron=text(values.get("cron")),
        start_blocks_login=truth(values.get("start_blocks_login")),
        run_on_start=truth(values.get("run_on_start")),
        run_on_stop=truth(values.get("run_on_stop")),
        timeout_seconds=number(values.get("timeout")),
        log_path=text(values.get("log_path")),
    )


def env(item: Instance) -> Env:
    """Read a `coder_env`."""
    values = item.values
    return Env(text(values.get("name")), text(values.get("value")), text(values.get("merge_strategy")))


def devcontainer(item: Instance) -> Devcontainer:
    """Read a `coder_devcontainer`, without what runs in it."""
    values = item.values
    return Devcontainer(
        id=text(values.get("id")),
        name=item.name,
        workspace_folder=text(values.get("workspace_folder")),
        config_path=text(values.get("config_path")),
        subagent_id=text(values.get("subagent_id")),
    )


def metadata_items(item: Instance) -> Iterator[MetadataItem]:
    """Read the items of a `coder_metadata`."""
    for block in blocks(item.values.get("item")):
        yield MetadataItem(
            text(block.get("key")),
            text(block.get("value")),
            truth(block.get("sensitive")),
            truth(block.get("is_null")),
        )


def parameter(item: Instance) -> RichParameter:
    """Read a `coder_parameter`.

    Raises:
        Invalid: its form type is none we know.
    """
    values = item.values
    form = text(values.get("form_type"))
    if form not in _FORM_TYPES:
        raise Invalid(f"decode form_type for coder_parameter.{item.name}: unknown form type {form!r}")
    validations = blocks(values.get("validation"))
    rule = validations[0] if len(validations) == 1 else {}
    low, high = _bounds(rule)
    return RichParameter(
        name=text(values.get("name")),
        display_name=text(values.get("display_name")),
        description=text(values.get("description")),
        type=text(values.get("type")),
        form_type=form,
        mutable=truth(values.get("mutable")),
        default=text(values.get("default")),
        icon=text(values.get("icon")),
        options=tuple(
            ParameterOption(
                text(option.get("name")),
                text(option.get("value")),
                text(option.get("description")),
                text(option.get("icon")),
            )
            for option in blocks(values.get("option"))
        ),
        required=not truth(values.get("optional")),
        order=number(values.get("order")),
        ephemeral=truth(values.get("ephemeral")),
        validation_regex=text(rule.get("regex")),
        validation_error=text(rule.get("error")),
        validation_min=low,
        validation_max=high,
        validation_monotonic=text(rule.get("monotonic")),
    )


def preset(item: Instance) -> Preset:
    """Read a `coder_workspace_preset`."""
    values = item.values
    prebuilds = blocks(values.get("prebuilds"))
    return Preset(
        name=text(values.get("name")),
        parameters=strings(values.get("parameters")),
        prebuild=_prebuild(prebuilds[0]) if prebuilds else Prebuild(),
        default=truth(values.get("default")),
        description=text(values.get("description")),
        icon=text(values.get("icon")),
    )


def _inline_scripts(values: Object) -> Iterator[Script]:
    """Read the scripts that are attributes of the agent."""
    start, stop = text(values.get("startup_script")), text(values.get("shutdown_script"))
    behavior = text(values.get("startup_script_behavior"))
    legacy_blocking = not behavior and values.get("login_before_ready") is False
    if start:
        yield Script(
            display_name="Startup Script",
            script=start,
            icon="/emojis/25b6-fe0f.png",
            log_path="coder-startup-script.log",
            start_blocks_login=behavior == "blocking" or legacy_blocking,
            run_on_start=True,
        )
    if stop:
        yield Script(
            display_name="Shutdown Script",
            script=stop,
            icon="/emojis/25c0.png",
            log_path="coder-shutdown-script.log",
            run_on_stop=True,
        )


def _agent_metadata(block: Object) -> AgentMetadata:
    return AgentMetadata(
        text(block.get("key")),
        text(block.get("display_name")),
        text(block.get("script")),
        number(block.get("interval")),
        number(block.get("timeout")),
        number(block.get("order")),
    )


def _display_apps(values: Object) -> DisplayApps:
    given = blocks(values.get("display_apps"))
    if not given:
        return DisplayApps()
    first = given[0]
    return DisplayApps(
        truth(first.get("vscode")),
        truth(first.get("vscode_insiders")),
        truth(first.get("web_terminal")),
        truth(first.get("ssh_helper")),
        truth(first.get("port_forwarding_helper")),
    )


def _monitors(values: Object) -> tuple[Monitor | None, tuple[Monitor, ...]]:
    memory: Monitor | None = None
    volumes: list[Monitor] = []
    for monitoring in blocks(values.get("resources_monitoring")):
        for block in blocks(monitoring.get("memory")):
            memory = Monitor("", truth(block.get("enabled")), number(block.get("threshold")))
        volumes.extend(
            Monitor(text(block.get("path")), truth(block.get("enabled")), number(block.get("threshold")))
            for block in blocks(monitoring.get("volume"))
        )
    return memory, tuple(volumes)


def _healthcheck(block: Object) -> Healthcheck:
    return Healthcheck(text(block.get("url")), number(block.get("interval")), number(block.get("threshold")))


def _prebuild(block: Object) -> Prebuild:
    expiration, scheduling = blocks(block.get("expiration_policy")), blocks(block.get("scheduling"))
    plan: Object = scheduling[0] if scheduling else {}
    return Prebuild(
        instances=min(number(block.get("instances")), _INT32),
        ttl_seconds=min(number(expiration[0].get("ttl")), _INT32) if expiration else 0,
        timezone=text(plan.get("timezone")),
        schedules=tuple(
            PrebuildSchedule(text(item.get("cron")), min(number(item.get("instances")), _INT32))
            for item in blocks(plan.get("schedule"))
        ),
    )


def _bounds(rule: Object) -> tuple[int | None, int | None]:
    low, high = number(rule.get("min")), number(rule.get("max"))
    if not rule:
        return None, None
    if "min_disabled" not in rule:  # providers before 0.8.2 did not say which bounds were set
        return (low, high) if low or high else (None, None)
    return (
        None if truth(rule.get("min_disabled")) else low,
        None if truth(rule.get("max_disabled")) else high,
    )


def _choice(kind: type[_Choice], value: str, default: _Choice) -> _Choice:
    return next((choice for choice in kind if choice.value == value.lower()), default)
