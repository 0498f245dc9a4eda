"""The deployment's health report, for operators."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, put

from warren.api.convert import jobs as convert
from warren.api.params import Query
from warren.authz.policy import Actor
from warren.domain.health import Section, SectionName
from warren.errors import Invalid, Violation
from warren.sdk.types.base import Sparse
from warren.services.health import Health

KEYS = {
    SectionName.DERP: "derp",
    SectionName.ACCESS_URL: "access_url",
    SectionName.WEBSOCKET: "websocket",
    SectionName.DATABASE: "database",
    SectionName.WORKSPACE_PROXY: "workspace_proxy",
    SectionName.PROVISIONER_DAEMONS: "provisioner_daemons",
}


class HealthSettings(Sparse, frozen=True):
    """Which sections nobody wants to hear of."""

    dismissed_healthchecks: list[str]


@get("/api/v2/debug/health")
async def read_health(request: Request[Any, Any, Any], actor: Actor, health: Health) -> dict[str, object]:
    """Say how the deployment is."""
    query = Query(request.query_params)
    force = query.flag("force")
    query.finish()
    found = await health.report(actor, force=force, show=convert.daemon)
    sections = {KEYS[name]: _section(name, section) for name, section in found.sections.items()}
    return {
        "time": found.at,
        "healthy": found.healthy,
        "severity": found.severity.value,
        **sections,
        "coder_version": found.version,
    }


def _section(name: SectionName, section: Section) -> dict[str, object]:
    written: dict[str, object] = {
        "error": section.error or None,
        "severity": section.severity.value,
        "warnings": [{"code": each.code, "message": each.message} for each in section.warnings],
        "dismissed": section.dismissed,
        **section.details,
    }
    if name is not SectionName.PROVISIONER_DAEMONS:
        written["healthy"] = section.healthy
    return written


@get("/api/v2/debug/health/settings")
async def read_settings(actor: Actor, health: Health) -> HealthSettings:
    """List the sections that are dismissed."""
    return HealthSettings([name.value for name in await health.dismissed(actor)])


@put("/api/v2/debug/health/settings")
async def write_settings(data: HealthSettings, actor: Actor, health: Health) -> Response[HealthSettings | None]:
    """Dismiss these sections and no others."""
    unknown = [name for name in data.dismissed_healthchecks if name not in set(SectionName)]
    if unknown:
        raise Invalid(
            "Unknown health section.", violations=[Violation("dismissed_healthchecks", f"{unknown[0]!r} is none")]
        )
    changed = await health.dismiss(actor, [SectionName(name) for name in data.dismissed_healthchecks])
    return Response(data, status_code=200) if changed else Response(None, status_code=204)


routes = [read_health, read_settings, write_settings]
