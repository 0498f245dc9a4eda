"""The rules that a template's `coder_*` blocks must keep, beyond the types in their schemas."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit
from uuid import UUID

from warren.provisioner.coder_provider import schedules
from warren.provisioner.coder_provider.values import Object, UnknownValue, Value, blocks, text, truth

Check = Callable[[str, Value], str | None]


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that was broken; `attribute` is empty where no single one is to blame."""

    attribute: str
    message: str
    detail: str = ""


Rule = Callable[[Object], Iterator[Broken]]

SLUG = re.compile(r"[a-z0-9](-?[a-z0-9])*")
_ENV_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_HOUR, _YEAR = 3600, 365 * 86400


def violations(kind: str, config: Object, *, data: bool) -> Iterator[Broken]:
    """Yield every rule that `config` breaks; unknown values break none."""
    table = _DATA if data else _RESOURCES
    checks, rules = table.get(kind, ((), ()))
    for path, check in checks:
        for name, value in _values(config, path.split("."), ""):
            if value is None or isinstance(value, UnknownValue):
                continue
            message = check(name, value)
            if message is not None:
                yield Broken(path.partition(".")[0], message)
    for rule in rules:
        yield from rule(config)


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


def _values(config: Object, path: Sequence[str], prefix: str) -> Iterator[tuple[str, Value]]:
    """Yield the values at a path with the names that messages give them, such as `prebuilds.0.instances`."""
    if len(path) == 1:
        yield prefix + path[0], config.get(path[0])
        return
    for index, block in enumerate(blocks(config.get(path[0]))):
        yield from _values(block, path[1:], f"{prefix}{path[0]}.{index}.")


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
        if low <= size <= high:
            return None
        return f"expected length of {name} to be in the range ({low} - {high}), got {value}"

    return check


def _at_most(high: int, what: str) -> Check:
    def check(_name: str, value: Value) -> str | None:
        return None if len(text(value).encode()) <= high else f"{what} is too long (max {high} characters)"

    return check


def _not_empty(name: str, value: Value) -> str | None:
    return None if text(value) else f'expected "{name}" to not be an empty string, got '


def _id_given(_name: str, value: Value) -> str | None:
    return None if text(value) else "id is required"


def _matches(pattern: re.Pattern[str], message: str) -> Check:
    def check(_name: str, value: Value) -> str | None:
        return None if pattern.fullmatch(text(value)) else f'{message}"{value}"'

    return check


def _env_name(_name: str, value: Value) -> str | None:
    valid = _ENV_NAME.fullmatch(text(value))
    return None if valid else "invalid value for name (must be a valid environment variable name)"


def _among(message: str, *allowed: str) -> Check:
    def check(_name: str, value: Value) -> str | None:
        return None if value in allowed else message.format(value=value)

    return check


def _absolute(_name: str, value: Value) -> str | None:
    return None if text(value).startswith("/") else "volume path must be an absolute path"


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


def _cron(_name: str, value: Value) -> str | None:
    problem = schedules.script_problem(text(value))
    return None if problem is None else f"{value} is not a valid cron expression: {problem}"


def _schedule(_name: str, value: Value) -> str | None:
    return schedules.preset_problem(text(value))


def _zone(_name: str, value: Value) -> str | None:
    return schedules.zone_problem(text(value))


def _unique(block: str, key: str, complaint: str) -> Rule:
    def rule(config: Object) -> Iterator[Broken]:
        seen: set[str] = set()
        for item in blocks(config.get(block)):
            value = item.get(key)
            if not isinstance(value, str):
                continue
            if value in seen:
                yield Broken("", f'{complaint} "{value}"')
            seen.add(value)

    return rule


def _monitors(config: Object) -> Iterator[Broken]:
    for monitoring in blocks(config.get("resources_monitoring")):
        volumes = blocks(monitoring.get("volume"))
        if not volumes and not blocks(monitoring.get("memory")):
            yield Broken("", "resources_monitoring must define at least one monitor")
        yield from _unique("volume", "path", "duplicate volume path")(monitoring)


def _conflicts(*pairs: tuple[str, str]) -> Rule:
    def rule(config: Object) -> Iterator[Broken]:
        for name, other in pairs:
            if _set(config.get(name)) and _set(config.get(other)):
                yield Broken(name, "Conflicting configuration arguments", f'"{name}": conflicts with {other}')

    return rule


def _set(value: Value) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return bool(value)
    return value is not None


def _script_runs(config: Object) -> Iterator[Broken]:
    triggers = ("run_on_start", "run_on_stop", "cron")
    if any(isinstance(config.get(name), UnknownValue) or config.get(name) for name in triggers):
        if truth(config.get("start_blocks_login")) and not config.get("run_on_start"):
            yield Broken("", '"start_blocks_login" can only be set if "run_on_start" is "true"')
        return
    yield Broken("", 'at least one of "run_on_start", "run_on_stop", or "cron" must be set')


def _overlaps(config: Object) -> Iterator[Broken]:
    for prebuilds in blocks(config.get("prebuilds")):
        for scheduling in blocks(prebuilds.get("scheduling")):
            crons = [text(item.get("cron")) for item in blocks(scheduling.get("schedule"))]
            problem = schedules.overlap(crons)
            if problem is not None:
                yield Broken("", problem)


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
                        'invalid "coder_app" slug, must be a valid hostname ("^[a-z0-9](-?[a-z0-9])*$", cannot contain '
                        "two consecutive hyphens or start/end with a hyphen): ",
                    ),
                ),
                ("display_name", _at_most(64, "display name")),
                ("group", _at_most(64, "group name")),
                ("tooltip", _at_most(2048, "tooltip")),
                (
                    "share",
                    _among(
                        'invalid app share "{value}", must be one of "owner", "authenticated", "public"',
                        "owner",
                        "authenticated",
                        "public",
                    ),
                ),
                (
                    "open_in",
                    _among(
                        'invalid "coder_app" open_in value, must be one of "tab", "slim-window": "{value}"',
                        "tab",
                        "slim-window",
                    ),
                ),
                ("icon", _url),
            ),
            (
                _conflicts(
                    ("command", "url"),
                    ("url", "command"),
                    ("command", "subdomain"),
                    ("healthcheck", "command"),
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
                ("name", _env_name),
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
        "coder_external_auth": ((("id", _id_given),), ()),
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
                ("type", _one_of("string", "number", "bool", "list(string)")),
                (
                    "form_type",
                    _one_of(
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
            ),
            (),
        ),
    }
)
