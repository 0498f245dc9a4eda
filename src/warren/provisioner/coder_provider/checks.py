"""The rules that a template's `coder_*` blocks must keep, beyond the types in their schemas."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from urllib.parse import urlsplit
from uuid import UUID

from warren.provisioner.coder_provider import schedules
from warren.provisioner.coder_provider.values import Object, UnknownValue, Value, blocks, text, truth

Check = Callable[[str, Value], str | None]
Rule = Callable[[Object], Iterator[str]]

SLUG = re.compile(r"[a-z0-9](-?[a-z0-9])*")
_ENV_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_HOUR, _YEAR = 3600, 365 * 86400


def violations(kind: str, config: Object, *, data: bool) -> Iterator[tuple[str, str]]:
    """Yield (attribute, message) for every rule that `config` breaks; unknown values break none."""
    table = _DATA if data else _RESOURCES
    checks, rules = table.get(kind, ((), ()))
    for path, check in checks:
        for value in _values(config, path.split(".")):
            if value is None or isinstance(value, UnknownValue):
                continue
            message = check(path.rsplit(".", 1)[-1], value)
            if message is not None:
                yield path.split(".")[0], message
    for rule in rules:
        for message in rule(config):
            yield "", message


def warnings(kind: str, config: Object) -> Iterator[tuple[str, str]]:
    """Yield (attribute, message) for what is allowed but surely not meant."""
    if kind == "coder_agent" and text(config.get("dir")) not in ("", "$HOME", "~"):
        yield "dir", "dir has been deprecated and will be removed in a future release."
    if kind == "coder_app" and truth(config.get("hidden")):
        for name in ("display_name", "icon", "order"):
            if config.get(name) is not None:
                yield name, f"`{name}` has no effect on a hidden app"
    cron = text(config.get("cron"))
    if kind == "coder_script" and cron and len(cron.split()) == schedules.UNIX_FIELDS:
        yield (
            "cron",
            (
                f'the cron expression "{cron}" has 5 fields: it is read as second, minute, hour, day and month. '
                "Put the second in front to mean a Unix schedule."
            ),
        )


def _values(config: Object, path: Sequence[str]) -> Iterator[Value]:
    if len(path) == 1:
        yield config.get(path[0])
        return
    for block in blocks(config.get(path[0])):
        yield from _values(block, path[1:])


def _one_of(*allowed: str) -> Check:
    def check(name: str, value: Value) -> str | None:
        listed = " ".join(f'"{item}"' for item in allowed)
        return None if value in allowed else f"expected {name} to be one of [{listed}], got {value}"

    return check


def _between(low: int, high: int | None = None) -> Check:
    def check(name: str, value: Value) -> str | None:
        if not isinstance(value, int | float) or (value >= low and (high is None or value <= high)):
            return None
        bound = f"at least ({low})" if high is None else f"in the range ({low} - {high})"
        return f"expected {name} to be {bound}, got {value}"

    return check


def _length(low: int, high: int) -> Check:
    def check(name: str, value: Value) -> str | None:
        size = len(text(value).encode())
        return (
            None
            if low <= size <= high
            else f"expected length of {name} to be in the range ({low} - {high}), got {size}"
        )

    return check


def _not_empty(name: str, value: Value) -> str | None:
    return None if text(value) else f'expected "{name}" to not be an empty string'


def _matches(pattern: re.Pattern[str], message: str) -> Check:
    def check(_name: str, value: Value) -> str | None:
        return None if pattern.fullmatch(text(value)) else message.format(value=value)

    return check


def _absolute(name: str, value: Value) -> str | None:
    return None if text(value).startswith("/") else f'{name} must be an absolute path, got "{value}"'


def _url(name: str, value: Value) -> str | None:
    try:
        urlsplit(text(value))
    except ValueError as error:
        return f'invalid {name} "{value}": {error}'
    return None


def _uuid(name: str, value: Value) -> str | None:
    try:
        UUID(text(value))
    except ValueError:
        return f'expected "{name}" to be a valid UUID, got {value}'
    return None


def _ttl(name: str, value: Value) -> str | None:
    if value == 0 or (isinstance(value, int | float) and _HOUR <= value <= _YEAR):
        return None
    return f'"{name}" must be 0 or between {_HOUR} and {_YEAR}, got {value}'


def _cron(name: str, value: Value) -> str | None:
    problem = schedules.script_problem(text(value))
    return None if problem is None else f'{name} "{value}" is not a valid cron expression: {problem}'


def _schedule(_name: str, value: Value) -> str | None:
    return schedules.preset_problem(text(value))


def _zone(_name: str, value: Value) -> str | None:
    return schedules.zone_problem(text(value))


def _unique(block: str, key: str, complaint: str) -> Rule:
    def rule(config: Object) -> Iterator[str]:
        seen: set[str] = set()
        for item in blocks(config.get(block)):
            value = item.get(key)
            if not isinstance(value, str):
                continue
            if value in seen:
                yield f'{complaint} "{value}"'
            seen.add(value)

    return rule


def _monitors(config: Object) -> Iterator[str]:
    for monitoring in blocks(config.get("resources_monitoring")):
        volumes = blocks(monitoring.get("volume"))
        if not volumes and not blocks(monitoring.get("memory")):
            yield "resources_monitoring must define at least one monitor"
        yield from _unique("volume", "path", "duplicate volume path")(monitoring)


def _conflicts(*pairs: tuple[str, str]) -> Rule:
    def rule(config: Object) -> Iterator[str]:
        for name, other in pairs:
            if _set(config.get(name)) and _set(config.get(other)):
                yield f'"{name}": conflicts with {other}'

    return rule


def _set(value: Value) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return bool(value)
    return value is not None


def _script_runs(config: Object) -> Iterator[str]:
    triggers = ("run_on_start", "run_on_stop", "cron")
    if any(isinstance(config.get(name), UnknownValue) or config.get(name) for name in triggers):
        if truth(config.get("start_blocks_login")) and not config.get("run_on_start"):
            yield '"start_blocks_login" can only be set if "run_on_start" is "true"'
        return
    yield 'at least one of "run_on_start", "run_on_stop", or "cron" must be set'


def _overlaps(config: Object) -> Iterator[str]:
    for prebuilds in blocks(config.get("prebuilds")):
        for scheduling in blocks(prebuilds.get("scheduling")):
            crons = [text(item.get("cron")) for item in blocks(scheduling.get("schedule"))]
            problem = schedules.overlap(crons)
            if problem is not None:
                yield problem


_Checks = tuple[tuple[tuple[str, Check], ...], tuple[Rule, ...]]

_RESOURCES: Mapping[str, _Checks] = MappingProxyType(
    {
        "coder_agent": (
            (
                ("os", _one_of("linux", "darwin", "windows")),
                ("arch", _one_of("amd64", "armv7", "arm64")),
                (
                    "auth",
                    _one_of("token", "google-instance-identity", "aws-instance-identity", "azure-instance-identity"),
                ),
                ("api_key_scope", _one_of("all", "no_user_data")),
                ("startup_script_behavior", _one_of("blocking", "non-blocking")),
                ("connection_timeout", _between(0)),
                ("resources_monitoring.memory.threshold", _between(0, 100)),
                ("resources_monitoring.volume.threshold", _between(0, 100)),
                ("resources_monitoring.volume.path", _absolute),
            ),
            (_unique("metadata", "key", "duplicate agent metadata key"), _monitors),
        ),
        "coder_app": (
            (
                (
                    "slug",
                    _matches(
                        SLUG,
                        'invalid "coder_app" slug, must be a valid hostname (alphanumeric with single '
                        'dashes inside): "{value}"',
                    ),
                ),
                ("display_name", _length(0, 64)),
                ("group", _length(0, 64)),
                ("tooltip", _length(0, 2048)),
                ("share", _one_of("owner", "authenticated", "public")),
                ("open_in", _one_of("tab", "slim-window")),
                ("icon", _url),
            ),
            (
                _conflicts(
                    ("command", "url"),
                    ("command", "subdomain"),
                    ("command", "healthcheck"),
                    ("external", "healthcheck"),
                    ("external", "command"),
                    ("external", "subdomain"),
                    ("external", "share"),
                ),
            ),
        ),
        "coder_script": ((("cron", _cron), ("timeout", _between(1))), (_script_runs,)),
        "coder_env": (
            (
                ("name", _matches(_ENV_NAME, "must be a valid environment variable name, got {value}")),
                ("merge_strategy", _one_of("replace", "append", "prepend", "error")),
            ),
            (),
        ),
        "coder_metadata": ((), (_unique("item", "key", "duplicate resource metadata key"),)),
        "coder_devcontainer": ((("workspace_folder", _not_empty),), ()),
        "coder_ai_task": ((("app_id", _uuid), ("sidebar_app.id", _uuid)), (_conflicts(("app_id", "sidebar_app")),)),
    }
)
_DATA: Mapping[str, _Checks] = MappingProxyType(
    {
        "coder_external_auth": ((("id", _not_empty),), ()),
        "coder_workspace_preset": (
            (
                ("name", _not_empty),
                ("description", _length(0, 128)),
                ("icon", _length(0, 256)),
                ("prebuilds.instances", _between(0)),
                ("prebuilds.expiration_policy.ttl", _ttl),
                ("prebuilds.scheduling.timezone", _zone),
                ("prebuilds.scheduling.schedule.cron", _schedule),
            ),
            (_overlaps,),
        ),
        "coder_parameter": (
            (
                ("type", _one_of("number", "string", "bool", "list(string)")),
                (
                    "form_type",
                    _one_of(
                        "",
                        "radio",
                        "slider",
                        "input",
                        "dropdown",
                        "checkbox",
                        "switch",
                        "multi-select",
                        "tag-select",
                        "textarea",
                        "error",
                    ),
                ),
                ("validation.monotonic", _one_of("increasing", "decreasing")),
            ),
            (),
        ),
    }
)
