"""The agent's own HTTP API, inside the tunnel on port 4 and partly on loopback."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

import anyio.to_thread
import msgspec

from warren.agent.http_server import ErrorBody, Request, Response, Route, Router
from warren.agent.log_files import FILE_NAME
from warren.agent.manifest import Manifest
from warren.agent.system import ListeningPort, System
from warren.errors import Invalid, NotFound
from warren.sdk.types import agents as types

MIN_PORT = 9
"""Ports below are the agent's own."""
LOG_BYTES = 10 * 1024 * 1024
ALL_LOGS_BYTES = 100 * 1024 * 1024
SCAN_SECONDS = 1.0
"""How long a scan of the ports is good for."""
REDACTED = "***REDACTED***"


class Facts:
    """What the API tells about; the agent fills it in as it learns."""

    def __init__(self, system: System, log_folder: Path) -> None:
        self.system, self.log_folder = system, log_folder
        self.own_ports: set[int] = set()
        self.manifest: Manifest | None = None
        self.network_text: Callable[[], str] | None = None
        self.netcheck: Callable[[], Awaitable[object]] | None = None
        self.network_report: Callable[[str], Awaitable[object]] | None = None
        self.metrics: Callable[[], str] = str
        self._scanned_at = float("-inf")
        self._ports: Sequence[ListeningPort] = ()

    async def listening_ports(self) -> Sequence[ListeningPort]:
        """List the ports that users may want to open."""
        if time.monotonic() - self._scanned_at > SCAN_SECONDS:
            self._ports = await anyio.to_thread.run_sync(self.system.listening_ports)
            self._scanned_at = time.monotonic()
        return [port for port in self._ports if port.port >= MIN_PORT and port.port not in self.own_ports]


def debug_routes(facts: Facts) -> list[Route]:
    """Return the routes that help to find out what is wrong."""

    async def logs(request: Request) -> Response:
        after = request.query.get("after", "")
        text = await anyio.to_thread.run_sync(read_logs, facts.log_folder, _moment(after) if after else None)
        return Response(text, content_type="text/plain; charset=utf-8")

    async def network(request: Request) -> Response:
        if facts.network_text is None:
            return Response.text("network not started yet", HTTPStatus.INTERNAL_SERVER_ERROR)
        return Response.text(facts.network_text())

    async def report(request: Request) -> Response:
        if facts.network_report is None:
            return Response.text("network not started yet", HTTPStatus.INTERNAL_SERVER_ERROR)
        return Response.json(await facts.network_report(request.query.get("peer", "")))

    async def debug_logging(request: Request) -> Response:
        if request.arguments["enabled"].lower() not in {"1", "t", "true", "0", "f", "false"}:
            return Response.text("invalid boolean", HTTPStatus.BAD_REQUEST)
        return Response.text("the network's log level is set with the agent's: use CODER_VERBOSE\n")

    async def manifest(request: Request) -> Response:
        if facts.manifest is None:
            return Response.text("no manifest received yet", HTTPStatus.INTERNAL_SERVER_ERROR)
        return Response.json(manifest_view(facts.manifest))

    return [
        Route("GET", "/debug/logs", logs),
        Route("GET", "/debug/magicsock", network),
        Route("GET", "/debug/network", report),
        Route("GET", "/debug/magicsock/debug-logging/{enabled}", debug_logging),
        Route("GET", "/debug/manifest", manifest),
    ]


def metrics_routes(facts: Facts) -> list[Route]:
    """Return the route that Prometheus reads."""

    async def metrics(request: Request) -> Response:
        text = facts.metrics()
        return Response(text.encode(), content_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("GET", path, metrics) for path in ("/debug/prometheus", "/metrics", "/")]


def tunnel_router(facts: Facts) -> Router:
    """Return the API that peers reach through the tunnel."""

    async def hello(request: Request) -> Response:
        return Response.json(ErrorBody("Hello from the agent!"))

    async def listening_ports(request: Request) -> Response:
        ports = [types.ListeningPort(port.process_name, "tcp", port.port) for port in await facts.listening_ports()]
        return Response.json(types.ListeningPorts(ports))

    async def netcheck(request: Request) -> Response:
        if facts.netcheck is None:
            return Response.text("network not started yet", HTTPStatus.INTERNAL_SERVER_ERROR)
        return Response.json(await facts.netcheck())

    async def containers(request: Request) -> Response:
        child = facts.manifest is not None and facts.manifest.parent_id is not None
        text = "Dev Container feature not supported." if child else "Dev Container feature not enabled."
        return Response.json(ErrorBody(text), HTTPStatus.FORBIDDEN)

    async def list_directory(request: Request) -> Response:
        wanted = msgspec.json.decode(request.body or b"{}", type=ListDirectory)
        return Response.json(await anyio.to_thread.run_sync(_list_directory, wanted, facts.system.home()))

    return Router(
        [
            Route("GET", "/", hello),
            Route("GET", "/api/v0/listening-ports", listening_ports),
            Route("GET", "/api/v0/netcheck", netcheck),
            Route("*", "/api/v0/containers", containers),
            Route("POST", "/api/v0/list-directory", list_directory),
            *debug_routes(facts),
            *metrics_routes(facts)[:1],
        ]
    )


class ListDirectory(msgspec.Struct, frozen=True):
    """Which folder to list."""

    path: list[str] = []
    relativity: str = "root"


class DirectoryEntry(msgspec.Struct, frozen=True):
    """A file or folder."""

    name: str
    absolute_path_string: str
    is_dir: bool


class Directory(msgspec.Struct, frozen=True):
    """A folder and what is in it."""

    absolute_path: list[str]
    absolute_path_string: str
    contents: list[DirectoryEntry]


def _list_directory(wanted: ListDirectory, home: str) -> Directory:
    if wanted.relativity not in {"root", "home"}:
        raise Invalid(f"unsupported relativity type {wanted.relativity!r}")
    path = Path("/" if wanted.relativity == "root" else home, *wanted.path).resolve()
    try:
        entries = sorted(path.iterdir())
    except NotADirectoryError as error:
        raise Invalid(f"path is not a directory: {path}") from error
    except FileNotFoundError as error:
        raise NotFound(f"no such directory: {path}") from error
    except OSError as error:
        raise Invalid(str(error)) from error
    contents = [DirectoryEntry(entry.name, str(entry), entry.is_dir()) for entry in entries]
    return Directory([part for part in path.parts if part != "/"], str(path), contents)


class ManifestView(msgspec.Struct, frozen=True):
    """The manifest as support may see it."""

    agent_id: str
    agent_name: str
    owner_name: str
    workspace_id: str
    workspace_name: str
    directory: str
    motd_file: str
    vscode_port_proxy_uri: str
    git_auth_configs: int
    disable_direct_connections: bool
    derp_force_websockets: bool
    environment_variables: dict[str, str]
    scripts: list[str]
    apps: list[str]
    metadata: list[str]


def manifest_view(manifest: Manifest) -> ManifestView:
    """Show a manifest without secrets and without the values of variables."""
    return ManifestView(
        agent_id=str(manifest.agent_id),
        agent_name=manifest.agent_name,
        owner_name=manifest.owner_name,
        workspace_id=str(manifest.workspace_id),
        workspace_name=manifest.workspace_name,
        directory=manifest.directory,
        motd_file=manifest.motd_path,
        vscode_port_proxy_uri=manifest.port_proxy_uri,
        git_auth_configs=manifest.git_providers,
        disable_direct_connections=manifest.block_direct,
        derp_force_websockets=manifest.force_websockets,
        environment_variables={name: REDACTED if value else "" for name, value in manifest.environment.items()},
        scripts=[script.display_name or str(script.script_id) for script in manifest.scripts],
        apps=[app.slug for app in manifest.apps],
        metadata=[description.key for description in manifest.metadata],
    )


def read_logs(folder: Path, after: datetime | None) -> bytes:
    """Read the beginning of the log; with `after`, also the rotated files written since, newest first."""
    current = folder / FILE_NAME
    if after is None:
        with current.open("rb") as file:
            return file.read(LOG_BYTES)
    rotated = sorted(folder.glob(f"{FILE_NAME}.*"), key=lambda path: path.stat().st_mtime, reverse=True)
    text = bytearray()
    for path in [current, *rotated]:
        written_at = datetime.fromtimestamp(path.stat().st_mtime, tz=after.tzinfo)
        if path != current and written_at <= after:
            continue
        text += f"=== {path.name} (mtime {written_at.isoformat()}) ===\n".encode()
        text += path.read_bytes()[: ALL_LOGS_BYTES - len(text)]
        if len(text) >= ALL_LOGS_BYTES:
            break
    return bytes(text)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid(f"invalid time {text!r}", detail=str(error)) from error
    if moment.tzinfo is None:
        raise Invalid(f"invalid time {text!r}", detail="it needs a time zone")
    return moment
