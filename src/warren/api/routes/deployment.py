"""The deployment: settings, figures, appearance, what the caller may do."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import msgspec
from litestar import get, post, put

from warren.api import auth
from warren.api.exchange import exchange_of
from warren.authz.policy import Actor, Object
from warren.authz.resources import RESOURCES
from warren.domain.names import violation
from warren.errors import Invalid, Violation
from warren.sdk.types import deployment as wire
from warren.sdk.types.base import Sparse
from warren.sdk.types.organizations import AuthorizationObject, AuthorizationRequest
from warren.services.agents import Agents
from warren.services.authcheck import Authcheck
from warren.services.deployment import Deployment

_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
ME = "me"


class UpdateAppearance(Sparse, frozen=True):
    """Dress the deployment."""

    application_name: str = ""
    logo_url: str = ""
    service_banner: wire.Banner = wire.Banner(enabled=False)
    announcement_banners: list[wire.Banner] = []


@get("/api/v2/deployment/config")
async def config(actor: Actor, deployment: Deployment) -> dict[str, object]:
    """Read the settings; secrets are blank."""
    deployment.check_config_readable(actor)
    return {"config": deployment.settings.config, "options": deployment.settings.options}


@get("/api/v2/deployment/ssh")
async def ssh_config(actor: Actor, deployment: Deployment) -> dict[str, object]:
    """Read what belongs into users' SSH configuration."""
    del actor
    settings = deployment.settings
    return {
        "hostname_prefix": settings.hostname_prefix,
        "hostname_suffix": settings.hostname_suffix,
        "ssh_config_options": settings.ssh_config_options,
    }


@get("/api/v2/deployment/stats")
async def stats(actor: Actor, deployment: Deployment) -> wire.DeploymentStats:
    """Count workspaces, traffic and sessions."""
    found = await deployment.stats(actor)
    traffic = found.traffic
    return wire.DeploymentStats(
        aggregated_from=found.aggregated_from,
        collected_at=found.collected_at,
        next_update_at=found.next_update_at,
        workspaces=wire.WorkspaceCounts(
            pending=found.counts.pending,
            building=found.counts.building,
            running=found.counts.running,
            failed=found.counts.failed,
            stopped=found.counts.stopped,
            connection_latency_ms=wire.LatencyPercentiles(P50=traffic.latency_p50_ms, P95=traffic.latency_p95_ms),
            rx_bytes=traffic.rx_bytes,
            tx_bytes=traffic.tx_bytes,
        ),
        session_count=wire.SessionCounts(
            vscode=traffic.vscode,
            ssh=traffic.ssh,
            jetbrains=traffic.jetbrains,
            reconnecting_pty=traffic.reconnecting_pty,
        ),
    )


@get("/api/v2/appearance")
async def read_appearance(scope: Any, deployment: Deployment, agents: Agents) -> wire.Appearance:
    """Read how the operator dressed the deployment; agents may, too. (An ASGI scope has no nearer type in handlers.)"""
    if exchange_of(scope).session is None:
        if not auth.is_agent_token(exchange_of(scope).token):
            auth.session(scope)
        await agents.authenticate(auth.agent_token(scope))
    return _appearance(await deployment.read_appearance(), deployment)


@put("/api/v2/appearance")
async def write_appearance(data: UpdateAppearance, actor: Actor, deployment: Deployment) -> wire.Appearance:
    """Dress the deployment."""
    for banner in [data.service_banner, *data.announcement_banners]:
        colour = banner.background_color
        if colour and not _COLOUR.fullmatch(colour):
            raise Invalid(
                "Invalid color format", violations=[Violation("background_color", f'"{colour}" is no #rgb or #rrggbb')]
            )
    await deployment.write_appearance(actor, msgspec.to_builtins(data))
    return _appearance(await deployment.read_appearance(), deployment)


def _appearance(found: Any, deployment: Deployment) -> wire.Appearance:
    """Show what is stored, which any release may have written: hence no nearer type."""
    return wire.Appearance(
        application_name=str(found.get("application_name", "")),
        logo_url=str(found.get("logo_url", "")),
        docs_url=deployment.settings.docs_url,
        service_banner=_banner(found.get("service_banner") or {}),
        announcement_banners=list(map(_banner, found.get("announcement_banners") or [])),
    )


def _banner(found: Any) -> wire.Banner:
    return wire.Banner(
        enabled=bool(found.get("enabled")),
        message=str(found.get("message", "")),
        background_color=str(found.get("background_color", "")),
    )


@post("/api/v2/authcheck", status_code=200)
async def authcheck(data: AuthorizationRequest, actor: Actor, authcheck: Authcheck) -> dict[str, bool]:
    """Answer questions about what the caller may do."""
    answers: dict[str, bool] = {}
    for key, check in data.checks.items():
        if check.object.resource_type not in RESOURCES:
            raise Invalid(
                "Validation failed.", violations=[violation("resource_type", "required", check.object.resource_type)]
            )
        answers[key] = await authcheck.may(actor, check.action, _object(check.object, actor))
    return answers


def _object(asked: AuthorizationObject, actor: Actor) -> Object:
    return Object(
        asked.resource_type,
        id=_id("resource_id", asked.resource_id),
        org_id=_id("organization_id", asked.organization_id),
        owner_id=actor.user_id if asked.owner_id == ME else _id("owner_id", asked.owner_id),
        any_org=asked.any_org,
    )


def _id(name: str, text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError as error:
        raise Invalid(f'Object {name} "{text}" is not a valid UUID.', detail=str(error)) from error


routes = [config, ssh_config, stats, read_appearance, write_appearance, authcheck]
