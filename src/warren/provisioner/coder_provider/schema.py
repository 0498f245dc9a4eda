"""What the `coder/coder` provider accepts: every data source and resource, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TypeAlias

from warren.provisioner.coder_provider.values import Value

TypeSpec: TypeAlias = "str | tuple[str, TypeSpec] | tuple[str, Mapping[str, TypeSpec]]"


class Mode(Enum):
    """Who sets an attribute: the template, the provider, or either."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    COMPUTED = "computed"
    OPTIONAL_COMPUTED = "optional+computed"


class Nesting(Enum):
    """How often a block may appear, and whether its order means something."""

    LIST = "list"
    SET = "set"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a block."""

    name: str
    type: TypeSpec
    mode: Mode = Mode.OPTIONAL
    default: Value = None
    sensitive: bool = False
    deprecated: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A nested block."""

    name: str
    nesting: Nesting
    attributes: tuple[Attribute, ...]
    blocks: tuple[Block, ...] = ()
    min_items: int = 0
    max_items: int = 0
    computed: bool = False  # the provider fills it when the template has none
    deprecated: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """A data source, a resource, or the provider block itself."""

    attributes: tuple[Attribute, ...]
    blocks: tuple[Block, ...] = ()
    version: int = 1


def _required(name: str, kind: TypeSpec = "string", **more: bool) -> Attribute:
    return Attribute(name, kind, Mode.REQUIRED, **more)


def _optional(name: str, kind: TypeSpec = "string", default: Value = None, *, deprecated: bool = False) -> Attribute:
    return Attribute(name, kind, Mode.OPTIONAL, default, deprecated=deprecated)


def _computed(name: str, kind: TypeSpec = "string", *, sensitive: bool = False) -> Attribute:
    return Attribute(name, kind, Mode.COMPUTED, sensitive=sensitive)


_STRINGS: TypeSpec = ("map", "string")
_ID = Attribute("id", "string", Mode.COMPUTED)
# Upstream's SDK adds `id` as optional where the provider does not declare it, and stock templates may rely on it.
_LOOSE_ID = Attribute("id", "string", Mode.OPTIONAL_COMPUTED)

PROVIDER = Schema((_optional("url"),), version=0)

_SCHEDULING = Block(
    "scheduling",
    Nesting.LIST,
    (_required("timezone"),),
    (Block("schedule", Nesting.LIST, (_required("cron"), _required("instances", "number")), min_items=1),),
    max_items=1,
)
_PREBUILDS = Block(
    "prebuilds",
    Nesting.SET,
    (_required("instances", "number"),),
    (Block("expiration_policy", Nesting.SET, (_required("ttl", "number"),), max_items=1), _SCHEDULING),
    max_items=1,
)

DATA_SOURCES: Mapping[str, Schema] = MappingProxyType(
    {
        "coder_workspace": Schema(
            (
                _ID,
                _computed("name"),
                _computed("access_url"),
                _computed("access_port", "number"),
                _computed("transition"),
                _computed("start_count", "number"),
                _computed("prebuild_count", "number"),
                _computed("is_prebuild", "bool"),
                _computed("is_prebuild_claim", "bool"),
                _computed("template_id"),
                _computed("template_name"),
                _computed("template_version"),
            )
        ),
        "coder_workspace_owner": Schema(
            (
                _ID,
                _computed("name"),
                _computed("full_name"),
                _computed("email"),
                _computed("ssh_public_key"),
                _computed("ssh_private_key", sensitive=True),
                _computed("groups", ("list", "string")),
                _computed("session_token", sensitive=True),
                _computed("oidc_access_token", sensitive=True),
                _computed("login_type"),
                _computed("rbac_roles", ("list", ("object", {"name": "string", "org_id": "string"}))),
            ),
            version=0,
        ),
        "coder_provisioner": Schema((_LOOSE_ID, _computed("os"), _computed("arch"))),
        "coder_workspace_tags": Schema((_LOOSE_ID, _optional("tags", _STRINGS))),
        "coder_external_auth": Schema(
            (
                _required("id"),
                _optional("optional", "bool"),
                _computed("access_token", sensitive=True),
            )
        ),
        "coder_task": Schema((_ID, _computed("prompt"), _computed("enabled", "bool")), version=0),
        "coder_workspace_preset": Schema(
            (
                _ID,
                _required("name"),
                _optional("description"),
                _optional("icon"),
                _optional("default", "bool", default=False),
                _optional("parameters", _STRINGS),
            ),
            (_PREBUILDS,),
        ),
        "coder_parameter": Schema(
            (
                _LOOSE_ID,
                _required("name"),
                _optional("display_name"),
                _optional("description"),
                _optional("icon"),
                _optional("type", default="string"),
                _optional("form_type"),
                _optional("styling", default="{}"),
                _optional("mutable", "bool", default=False),
                _optional("default"),
                _optional("ephemeral", "bool", default=False),
                _optional("order", "number"),
                _computed("value"),
                _computed("optional", "bool"),
            ),
            (
                Block(
                    "option",
                    Nesting.LIST,
                    (_required("name"), _required("value"), _optional("description"), _optional("icon")),
                ),
                Block(
                    "validation",
                    Nesting.LIST,
                    (
                        _optional("min", "number"),
                        _computed("min_disabled", "bool"),
                        _optional("max", "number"),
                        _computed("max_disabled", "bool"),
                        _optional("monotonic"),
                        _optional("regex"),
                        _optional("error"),
                    ),
                    max_items=1,
                ),
            ),
        ),
    }
)

DISPLAY_APPS = (
    _optional("vscode", "bool", default=True),
    _optional("vscode_insiders", "bool", default=False),
    _optional("web_terminal", "bool", default=True),
    _optional("port_forwarding_helper", "bool", default=True),
    _optional("ssh_helper", "bool", default=True),
)
_MONITORS = Block(
    "resources_monitoring",
    Nesting.SET,
    (),
    (
        Block("memory", Nesting.SET, (_required("enabled", "bool"), _required("threshold", "number")), max_items=1),
        Block(
            "volume",
            Nesting.SET,
            (_required("path"), _required("enabled", "bool"), _required("threshold", "number")),
        ),
    ),
    max_items=1,
)

RESOURCES: Mapping[str, Schema] = MappingProxyType(
    {
        "coder_agent": Schema(
            (
                _LOOSE_ID,
                _required("os"),
                _required("arch"),
                _optional("auth", default="token"),
                _optional("api_key_scope", default="all"),
                _optional("dir", deprecated=True),
                _optional("env", _STRINGS),
                _optional("startup_script"),
                _optional("shutdown_script"),
                _optional("startup_script_behavior", default="non-blocking"),
                _optional("connection_timeout", "number", default=120),
                _optional("troubleshooting_url"),
                _optional("motd_file"),
                _optional("order", "number"),
                _computed("token", sensitive=True),
                _computed("init_script"),
            ),
            (
                Block(
                    "metadata",
                    Nesting.LIST,
                    (
                        _required("key"),
                        _optional("display_name"),
                        _required("script"),
                        _required("interval", "number"),
                        _optional("timeout", "number"),
                        _optional("order", "number"),
                    ),
                ),
                Block("display_apps", Nesting.SET, DISPLAY_APPS, max_items=1, computed=True),
                _MONITORS,
            ),
        ),
        "coder_agent_instance": Schema((_LOOSE_ID, _required("agent_id"), _required("instance_id")), version=0),
        "coder_app": Schema(
            (
                _LOOSE_ID,
                _required("agent_id"),
                _required("slug"),
                _optional("display_name"),
                _optional("url"),
                _optional("command"),
                _optional("external", "bool", default=False),
                _optional("subdomain", "bool"),
                _optional("share", default="owner"),
                _optional("icon"),
                _optional("group"),
                _optional("order", "number"),
                _optional("hidden", "bool", default=False),
                _optional("open_in", default="slim-window"),
                _optional("tooltip"),
            ),
            (
                Block(
                    "healthcheck",
                    Nesting.SET,
                    (_required("url"), _required("interval", "number"), _required("threshold", "number")),
                    max_items=1,
                ),
            ),
        ),
        "coder_script": Schema(
            (
                _LOOSE_ID,
                _required("agent_id"),
                _required("display_name"),
                _required("script"),
                _optional("icon"),
                _optional("log_path"),
                _optional("cron"),
                _optional("run_on_start", "bool", default=False),
                _optional("run_on_stop", "bool", default=False),
                _optional("start_blocks_login", "bool", default=False),
                _optional("timeout", "number", default=0),
            )
        ),
        "coder_env": Schema(
            (
                _LOOSE_ID,
                _required("agent_id"),
                _required("name"),
                _optional("value"),
                _optional("merge_strategy", default="replace"),
            )
        ),
        "coder_metadata": Schema(
            (
                _LOOSE_ID,
                _required("resource_id"),
                _optional("hide", "bool"),
                _optional("icon"),
                _optional("daily_cost", "number"),
            ),
            (
                Block(
                    "item",
                    Nesting.LIST,
                    (
                        _required("key"),
                        _optional("value"),
                        _optional("sensitive", "bool", default=False),
                        _computed("is_null", "bool"),
                    ),
                ),
            ),
        ),
        "coder_devcontainer": Schema(
            (
                _LOOSE_ID,
                _required("agent_id"),
                _required("workspace_folder"),
                _optional("config_path"),
                _computed("subagent_id"),
            )
        ),
        "coder_external_agent": Schema((_LOOSE_ID, _required("agent_id"))),
        "coder_ai_task": Schema(
            (
                _ID,
                Attribute("app_id", "string", Mode.OPTIONAL_COMPUTED),
                _computed("prompt"),
                _computed("enabled", "bool"),
            ),
            (Block("sidebar_app", Nesting.SET, (_required("id"),), max_items=1, deprecated=True),),
        ),
    }
)
