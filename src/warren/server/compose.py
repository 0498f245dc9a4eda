"""Construct the parts of the API from the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from warren import __version__
from warren.api.gate import GateSettings
from warren.api.parts import Parts
from warren.api.rate_limit import Limits
from warren.authz.roles import RoleOptions
from warren.clock import Clock
from warren.provisioner.binary import Release
from warren.provisioner.model import CoderProvider
from warren.server import relay_map
from warren.server.control_plane import ControlPlane, ControlPlaneConfig
from warren.services.authcheck import Authcheck
from warren.services.deployment import Deployment, DeploymentSettings
from warren.services.health import Health, HealthSettings, Probes
from warren.services.organizations import Organizations
from warren.services.passwords import Passwords
from warren.services.sessions import Sessions, SessionSettings
from warren.services.tokens import Tokens
from warren.services.users import Users
from warren.settings import Loaded, Settings, nest, options, shown
from warren.storage.db import Database
from warren.storage.notify import Notifier

if TYPE_CHECKING:
    from uuid import UUID

VERSION = f"v2.36.0+warren-{__version__}"  # major.minor are upstream's: its clients compare them with their own


def control_plane_config(
    settings: Settings, access_url: str, environment: Mapping[str, str], *, stun_port: int
) -> ControlPlaneConfig:
    """Tell the services around workspaces what the operator wants."""
    return ControlPlaneConfig(
        access_url=access_url,
        cache_folder=cache_folder(settings, environment),
        derp_map=relay_map.build(settings, access_url, stun_port),
        daemons=settings.provisioner_daemons,
        terraform_path=Path(settings.terraform_path) if settings.terraform_path else None,
        terraform_release=Release(settings.terraform_download_url, sha256=settings.terraform_download_sha256)
        if settings.terraform_download_url
        else None,
        coder_provider=CoderProvider(settings.coder_provider),
        wildcard_app_host=settings.wildcard_access_url,
        block_direct=settings.block_direct_connections,
        force_websockets=settings.derp_force_websockets,
        hostname_suffix=settings.workspace_hostname_suffix,
        stats_interval=settings.agent_stats_refresh_interval,
        provisioner_daemon_psk=settings.provisioner_daemon_psk,
        allow_workspace_renames=settings.allow_workspace_renames,
    )


def compose(
    loaded: Loaded,
    access_url: str,
    deployment_id: UUID,
    plane: ControlPlane,
    database: Database,
    notifier: Notifier,
    clock: Clock,
    probes: Probes,
) -> Parts:
    """Construct what handlers are given; nothing of it runs by itself."""
    settings = loaded.settings
    passwords, roles = Passwords(), _role_options(settings)
    session_settings = _session_settings(settings, roles)
    users = Users(database, clock, passwords, roles, settings.ssh_keygen_algorithm)
    return Parts(
        database=database,
        notifier=notifier,
        clock=clock,
        gate_settings=_gate_settings(settings, access_url),
        deployment=Deployment(database, clock, deployment_id, _deployment_settings(loaded, access_url)),
        sessions=Sessions(database, clock, passwords, session_settings),
        users=users,
        tokens=Tokens(database, clock, users, session_settings),
        organizations=Organizations(database, clock, plane.lookups, users),
        authcheck=Authcheck(database),
        lookups=plane.lookups,
        files=plane.files,
        templates=plane.templates,
        template_versions=plane.template_versions,
        workspaces=plane.workspaces,
        workspace_pages=plane.workspace_pages,
        workspace_updates=plane.workspace_updates,
        builds=plane.builds,
        jobs=plane.jobs,
        health=Health(database, clock, _health_settings(settings, access_url), probes),
        provisionerd=plane.provisionerd,
        provisioner_keys=plane.provisioner_keys,
        agents=plane.agents,
        agent_rpc=plane.agent_rpc,
        coordination=plane.coordination,
        resume_tokens=plane.resume_tokens,
    )


def _health_settings(settings: Settings, access_url: str) -> HealthSettings:
    return HealthSettings(
        access_url=access_url,
        version=VERSION,
        refresh=settings.health_check_refresh,
        database_threshold=settings.health_check_threshold_database,
    )


def cache_folder(settings: Settings, environment: Mapping[str, str]) -> Path:
    """Say where what may be lost is kept."""
    if settings.cache_dir:
        return Path(settings.cache_dir).expanduser()
    if systemd := environment.get("CACHE_DIRECTORY"):
        return Path(systemd)
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coder"


def _role_options(settings: Settings) -> RoleOptions:
    return RoleOptions(
        owner_workspace_access=not settings.disable_owner_workspace_access,
        workspace_sharing=not settings.disable_workspace_sharing,
    )


def _session_settings(settings: Settings, roles: RoleOptions) -> SessionSettings:
    return SessionSettings(
        session_lifetime=settings.session_duration,
        sliding=not settings.disable_session_expiry_refresh,
        default_token_lifetime=settings.default_token_lifetime,
        max_token_lifetime=settings.max_token_lifetime,
        max_admin_token_lifetime=settings.max_admin_token_lifetime,
        password_login=not settings.disable_password_auth,
        roles=roles,
    )


def _gate_settings(settings: Settings, access_url: str) -> GateSettings:
    secure = settings.secure_auth_cookie
    off = settings.dangerous_disable_rate_limits
    return GateSettings(
        version=VERSION,
        limits=Limits(0, 0, 0) if off else Limits(api=settings.api_rate_limit),
        secure_cookies=access_url.startswith("https://") if secure is None else secure,
        same_site=settings.samesite_auth_cookie,
        trusted_headers=settings.proxy_trusted_headers,
        trusted_origins=settings.proxy_trusted_origins,
        host_prefix=settings.host_prefix_cookie,
        any_origin=settings.dangerous_allow_cors_requests,
        redirect_to=access_url.rstrip("/") if settings.redirect_to_access_url else "",
        transport_security=_transport_security(settings) if access_url.startswith("https://") else "",
    )


def _transport_security(settings: Settings) -> str:
    """Write the Strict-Transport-Security header; empty where the operator wants none."""
    seconds = settings.strict_transport_security
    if not seconds:
        return ""
    return "; ".join([f"max-age={seconds}", *settings.strict_transport_security_options])


def _deployment_settings(loaded: Loaded, access_url: str) -> DeploymentSettings:
    settings = loaded.settings
    return DeploymentSettings(
        version=VERSION,
        access_url=access_url,
        wildcard_host=settings.wildcard_access_url,
        docs_url=settings.docs_url,
        hostname_prefix=settings.ssh_hostname_prefix,
        hostname_suffix=settings.workspace_hostname_suffix,
        ssh_config_options={line.partition("=")[0]: line.partition("=")[2] for line in settings.ssh_config_options},
        upgrade_message=settings.cli_upgrade_message,
        terms_of_service_url=settings.terms_of_service_url,
        experiments=settings.experiments,
        browser_only=settings.browser_only,
        config=_config_tree(settings, access_url),
        options=_option_list(loaded),
    )


def _config_tree(settings: Settings, access_url: str) -> Mapping[str, object]:
    tree: dict[str, object] = {}
    for option in options():
        if option.config:
            nest(tree, option.config, "" if option.secret else shown(getattr(settings, option.name)))
    tree["access_url"] = access_url
    return tree


def _option_list(loaded: Loaded) -> Sequence[Mapping[str, object]]:
    found: list[Mapping[str, object]] = []
    for option in options():
        line: dict[str, object] = {
            "name": option.name.replace("_", " ").title(),
            "description": option.help,
            "flag": option.flag,
            "env": option.env,
            "yaml": option.yaml.rpartition(".")[2],
            "group": {"name": option.group},
            "hidden": option.hidden,
            "value_source": loaded.sources.get(option.name, "default"),
        }
        if option.secret:
            line["annotations"] = {"secret": "true"}
        else:
            line["default"] = str(option.default)
            line["value"] = shown(getattr(loaded.settings, option.name))
        found.append(line)
    return found
