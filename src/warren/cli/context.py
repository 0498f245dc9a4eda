"""What a command works with: the parsed global options, the configuration, the client, the terminal."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import UUID

import anyio
import click

from warren.cli import config, params, ui
from warren.errors import Invalid, NotFound, Unauthenticated, WarrenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from warren.sdk.client import Client
    from warren.sdk.types.organizations import Organization
    from warren.sdk.types.workspaces import Workspace

VERSION_SECONDS = 2.0  # a warning must not keep anybody waiting


@dataclass(frozen=True, slots=True)
class Globals:
    """The global options, parsed."""

    url: str = ""
    token: str = ""
    folder: Path = field(default_factory=config.default_path)
    header: tuple[str, ...] = ()
    header_command: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    disable_direct: bool = False
    port_mapping: bool = True
    listen_port: int = 0
    tunnel_stack: str = "auto"
    tunnel_congestion_control: str = "auto"
    no_version_warning: bool = False
    force_tty: bool = False
    verbose: bool = False
    no_open: bool = False
    custom_folder: bool = False

    @classmethod
    def parse(cls, values: dict[str, object]) -> Globals:
        """Take the values that click collected."""

        def text(name: str) -> str:
            return str(values.get(name) or "")

        # click makes it a tuple of texts
        header = cast("tuple[str, ...]", values.get("header") or ())
        return cls(
            url=text("url"),
            token=text("token"),
            folder=Path(text("global_config")).expanduser() if text("global_config") else config.default_path(),
            custom_folder=bool(text("global_config")),
            header=tuple(header),
            header_command=text("header_command"),
            ca_file=text("client_tls_ca_file"),
            cert_file=text("client_tls_cert_file"),
            key_file=text("client_tls_key_file"),
            disable_direct=bool(values.get("disable_direct_connections")),
            port_mapping=not values.get("disable_port_mapping"),
            listen_port=int(str(values.get("tailnet_listen_port") or 0)),
            tunnel_stack=text("tunnel_stack") or "auto",
            tunnel_congestion_control=text("tunnel_congestion_control") or "auto",
            no_version_warning=bool(values.get("no_version_warning")),
            force_tty=bool(values.get("force_tty")),
            verbose=bool(values.get("verbose")),
            no_open=bool(values.get("no_open")),
        )


class Context:
    """What a command works with."""

    def __init__(self, options: Globals, *, program: str = "warren") -> None:
        self.options = options
        self.program = program
        self.folder = config.ConfigFolder(options.folder)
        self.terminal = ui.Terminal.of_process(force_tty=options.force_tty)
        self._clients: list[Client] = []

    @classmethod
    def current(cls) -> Context:
        """Make the context of the command that click is running."""
        root = click.get_current_context().find_root()
        values: dict[str, object] = root.ensure_object(dict)  # pyright: ignore[reportUnknownVariableType]  ours, see main.run
        return cls(Globals.parse(values), program=root.info_name or "warren")

    @property
    def url(self) -> str:
        """The server's URL: by flag, variable, or as stored at login; empty when unknown."""
        return self.options.url or self.folder.read("url")

    @property
    def token(self) -> str:
        """The session token: by flag, variable, or as stored at login; empty when unknown."""
        return self.options.token or self.folder.read("session")

    @cached_property
    def client(self) -> Client:
        """The signed-in client.

        Raises:
            Unauthenticated: nobody is logged in.
        """
        if not self.url or not self.token:
            raise Unauthenticated(f"You are not logged in. Try logging in using '{self.program} login <url>'.")
        return self.client_for(self.url, token=self.token)

    def client_for(self, url: str, *, token: str = "", headers: Mapping[str, str] | None = None) -> Client:
        """Make a client for another URL or token, with the same certificates and headers, and some more headers."""
        from warren import __version__
        from warren.sdk.client import Client
        from warren.sdk.client_transport import TLSOptions

        options = self.options
        client = Client(
            url,
            token=token,
            headers={**self._headers(url), **(headers or {})},
            tls=TLSOptions(options.ca_file, options.cert_file, options.key_file),
            user_agent=f"warren-cli/{__version__} ({sys.platform})",
        )
        self._clients.append(client)
        return client

    async def aclose(self) -> None:
        """Close what the context opened; say once when the server is of another version."""
        for client in self._clients[-1:]:
            await self._warn_of_version(client)
        while self._clients:
            await self._clients.pop().aclose()

    async def workspace(self, name: str) -> Workspace:
        """Find a workspace by `name`, `owner/name` or id.

        Raises:
            NotFound: there is none.
        """
        workspace_id = _uuid(name)
        if workspace_id is not None:
            return await self.client.workspaces.get(workspace_id)
        owner, _, own_name = name.rpartition("/")
        try:
            return await self.client.workspaces.by_name(owner or "me", own_name)
        except NotFound as error:
            raise NotFound(f"no workspace `{name}`: {error.message}", hint=f"{self.program} list") from error

    async def organization(self, wanted: str) -> Organization:
        """Find the organization to work in: the one wanted, or the only one that the user is in.

        Raises:
            Invalid: there are several and none was chosen.
            NotFound: there is none of that name.
        """
        mine = await self.client.organizations.mine()
        wanted = wanted or self.folder.read("organization")
        if not wanted:
            if len(mine) == 1:
                return mine[0]
            names = ", ".join(organization.name for organization in mine)
            raise Invalid(f"you are in several organizations: {names}", hint="choose one with --org=<name>")
        for organization in mine:
            if wanted.lower() in {organization.name.lower(), str(organization.id)}:
                return organization
        return await self.client.organizations.get(wanted)

    async def _warn_of_version(self, client: Client) -> None:
        from warren import __version__

        if self.options.no_version_warning or same_version(__version__, client.server_version):
            return
        with anyio.move_on_after(VERSION_SECONDS, shield=True), suppress(WarrenError):
            info = await client.build_info()
            what = f"version mismatch: client v{__version__}, server {info.version}"
            self.terminal.warn(f"{what}; {info.upgrade_message}" if info.upgrade_message else what)

    def _headers(self, url: str) -> dict[str, str]:
        headers = params.key_values(self.options.header, "--header")
        if self.options.header_command:
            import os

            ran = subprocess.run(  # noqa: S602  the user's own shell command, by contract
                self.options.header_command,
                shell=True,
                env={**os.environ, "CODER_URL": url, "WARREN_URL": url},
                stdout=subprocess.PIPE,
                check=False,
                text=True,
            )
            if ran.returncode:
                raise Invalid(f"the header command failed with status {ran.returncode}")
            headers |= params.key_values([line for line in ran.stdout.splitlines() if line], "--header")
        return headers


def same_version(ours: str, theirs: str) -> bool:
    """Say whether two versions agree in their first two numbers; an unknown one is no reason to warn.

    Our servers announce the version of the protocols they speak, then their own: `v2.36.0+warren-0.1.0`.
    """
    theirs = theirs.partition("+warren-")[2] or theirs
    return not theirs or ours.lstrip("v").split(".")[:2] == theirs.lstrip("v").split(".")[:2]


org_option = params.option("--org", "-O", "org", env="ORGANIZATION", default="", help="Organization, by name or id.")


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
