"""What anybody may ask: which server this is, what it offers, whether it is alive."""

from __future__ import annotations

from litestar import Response as Answer
from litestar import get, post

from warren.api.json import JSONResponse
from warren.authz.policy import Actor
from warren.clock import Clock
from warren.domain import api_version, init_script
from warren.errors import Invalid, NotFound, WarrenError
from warren.sdk.types import deployment as wire
from warren.sdk.types.base import Response
from warren.sdk.types.users import BuildInfo, UpdateCheck
from warren.services.deployment import Deployment
from warren.storage.db import Database

HOME = "https://github.com/coder/coder"  # clients take it for the place of releases and compare it with nothing
TEXT = "text/plain"  # the charset is added
OLD_AGENT_API = "1.0"  # what upstream still says here; the sockets negotiate for themselves
BUILT = frozenset({"access_control", "external_provisioner_daemons"})
"""What clients may show because it is there. Nothing is behind a licence; the rest is not built yet."""
FEATURES = (
    *("access_control", "advanced_template_scheduling", "appearance", "audit_log", "browser_only", "connection_log"),
    *("control_shared_ports", "custom_roles", "external_provisioner_daemons", "external_token_encryption"),
    *("high_availability", "multiple_external_auth", "multiple_organizations", "scim", "service_accounts"),
    *("task_batch_actions", "template_rbac", "user_limit", "user_role_management", "workspace_batch_actions"),
    *("workspace_external_agent", "workspace_prebuilds", "workspace_proxy"),
)
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Allow-Methods": "*",
    "Access-Control-Allow-Credentials": "false",
    "Timing-Allow-Origin": "*",
}
_SAFE_EXPERIMENTS = ["minimum-implicit-member"]


@get("/healthz", sync_to_thread=False)
def healthz() -> Answer[str]:
    """Say that the process lives, whatever it depends on."""
    return Answer("OK", media_type=TEXT)


@get("/readyz")
async def readyz(deployment: Deployment, database: Database) -> Answer[dict[str, str]]:
    """Say whether requests can be served; the status is 200 all the same, so that nobody restarts us for nothing."""
    try:
        await deployment.ping()
    except WarrenError as error:
        return Answer({"status": "waiting", "database": error.message, "away": str(database.away).lower()})
    return Answer({"status": "ready", "database": "ok"})


@get("/latency-check", sync_to_thread=False)
def latency_check() -> Answer[str]:
    """Answer at once, to anybody."""
    return Answer("OK", media_type=TEXT, headers=_CORS)


@get("/api/v2", sync_to_thread=False)
def greeting() -> Response:
    """Greet."""
    return Response(message="\N{WAVING HAND SIGN}")


@get("/api/v2/buildinfo", sync_to_thread=False)
def build_info(deployment: Deployment) -> BuildInfo:
    """Tell which server this is."""
    settings = deployment.settings
    return BuildInfo(
        external_url=HOME,
        version=settings.version,
        dashboard_url=settings.access_url,
        telemetry=False,
        workspace_proxy=False,
        agent_api_version=OLD_AGENT_API,
        provisioner_api_version=str(api_version.PROVISIONER_API),
        upgrade_message=settings.upgrade_message,
        deployment_id=str(deployment.id),
    )


@get("/api/v2/updatecheck", sync_to_thread=False)
def update_check(deployment: Deployment) -> UpdateCheck:
    """Say that there is nothing newer: Warren asks nobody."""
    return UpdateCheck(current=True, version=deployment.settings.version, url=HOME)


@get("/api/v2/entitlements", sync_to_thread=False)
def entitlements(clock: Clock, deployment: Deployment) -> wire.Entitlements:
    """Say what there is: all that is built may be used."""
    built = BUILT | {"browser_only"} if deployment.settings.browser_only else BUILT
    return wire.Entitlements(
        features={name: _feature(built=name in built) for name in FEATURES},
        warnings=[],
        errors=[],
        has_license=True,
        trial=False,
        require_telemetry=False,
        refreshed_at=clock.now(),
    )


def _feature(*, built: bool) -> wire.Feature:
    return wire.Feature(entitlement="entitled" if built else "not_entitled", enabled=built)


@get("/api/v2/experiments", sync_to_thread=False)
def experiments(actor: Actor, deployment: Deployment) -> list[str]:
    """List the experiments that are on."""
    del actor
    wanted = list(deployment.settings.experiments)
    return _SAFE_EXPERIMENTS if "*" in wanted else wanted


@get("/api/v2/experiments/available", sync_to_thread=False)
def available_experiments(actor: Actor) -> dict[str, list[str]]:
    """List the experiments that there are."""
    del actor
    return {"safe": _SAFE_EXPERIMENTS}


@get("/api/v2/regions", sync_to_thread=False)
def regions(actor: Actor, deployment: Deployment) -> wire.Regions:
    """List the places from which workspaces can be reached: this one."""
    del actor
    primary = wire.Region(
        id=deployment.id,
        name="primary",
        display_name="Default",
        icon_url="/emojis/1f3e1.png",
        healthy=True,
        path_app_url=deployment.settings.access_url,
        wildcard_hostname=deployment.settings.wildcard_host,
    )
    return wire.Regions(regions=[primary])


@get("/api/v2/applications/host", sync_to_thread=False)
def applications_host(actor: Actor, deployment: Deployment) -> dict[str, str]:
    """Tell the host names of workspace apps."""
    del actor
    return {"host": deployment.settings.wildcard_host}


@post("/api/v2/csp/reports", status_code=200, sync_to_thread=False)
def csp_report() -> str:
    """Take a browser's report; the access log has it."""
    return "ok"


@get("/api/v2/init-script/{system:str}/{processor:str}", sync_to_thread=False)
def agent_script(system: str, processor: str, deployment: Deployment) -> Answer[str]:
    """Give the script that brings an agent up."""
    try:
        script = init_script.render(system, processor, deployment.settings.access_url)
    except WarrenError as error:
        raise Invalid(f"Unknown os/arch: {system}/{processor}") from error
    return Answer(script, media_type=TEXT)


@get("/bin/{name:str}", sync_to_thread=False)
def binary(name: str) -> JSONResponse:
    """Say that there is no such program here."""
    raise NotFound(f"This server has no program {name}.", detail="install Warren in the workspace's image")


routes = [
    healthz,
    readyz,
    latency_check,
    greeting,
    build_info,
    update_check,
    entitlements,
    experiments,
    available_experiments,
    regions,
    applications_host,
    csp_report,
    agent_script,
    binary,
]
