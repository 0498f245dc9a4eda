"""What git runs in a workspace: ssh with the user's key, and answers to its questions."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from warren.cli.command import command
from warren.cli.context import Context
from warren.cli.errors import ExitStatus
from warren.errors import Invalid, NotFound, Unauthenticated
from warren.sdk.client import Client

DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa", "id_dsa", "id_ed25519_sk", "id_ecdsa_sk")
_PROMPT = re.compile(r"(Username|Password) for '([^']+)'")


class AgentKey(msgspec.Struct, frozen=True):
    """The key pair of the workspace's owner."""

    public_key: str
    private_key: str


class ExternalAuth(msgspec.Struct, frozen=True):
    """A credential of the workspace's owner, or where they get one."""

    username: str = ""
    password: str = ""
    url: str = ""


@command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
async def gitssh(context: Context, *, arguments: tuple[str, ...]) -> None:
    """Run ssh with the key of the workspace's owner, besides the keys that lie in the home folder."""
    key = await _agent_client(context).get("/workspaceagents/me/gitsshkey", AgentKey)
    status = run_ssh(key, arguments)
    if status == 255:
        context.terminal.say(
            f"\nIf git was refused, add this public key at your git provider:\n\n{key.public_key.strip()}\n\n"
            f"or run `{context.program} publickey`."
        )
    if status:
        raise ExitStatus(status)


def run_ssh(key: AgentKey, arguments: Sequence[str]) -> int:
    """Run ssh with the key, in a file that only we may read, and the keys of the home folder; return its status."""
    with tempfile.NamedTemporaryFile("w", prefix="warren-gitssh-") as file:  # made with mode 0600
        file.write(key.private_key)
        file.flush()
        own = [str(path) for name in DEFAULT_KEYS if (path := Path.home() / ".ssh" / name).is_file()]
        identities = [word for path in [file.name, *own] for word in ("-i", path)]
        return subprocess.run(["ssh", *identities, *arguments], check=False).returncode


@command()
@click.argument("prompt")
async def gitaskpass(context: Context, *, prompt: str) -> None:
    """Answer git's question for a user name or a password."""
    found = _PROMPT.match(prompt)
    if found is None:
        raise Invalid(f"cannot answer {prompt!r}")
    client = _agent_client(context)
    query = {"match": found[2]}
    try:
        auth = await client.get("/workspaceagents/me/external-auth", ExternalAuth, query)
        if auth.url:
            context.terminal.say(f"Open this link to sign in to {found[2]}:\n\n  {auth.url}\n")
            auth = await client.get("/workspaceagents/me/external-auth", ExternalAuth, {**query, "listen": "true"})
    except NotFound as error:
        raise ExitStatus(1, f"no sign-in is set up for {found[2]}") from error
    context.terminal.out(auth.username if found[1] == "Username" else auth.password)


def _agent_client(context: Context) -> Client:
    """Make a client that speaks for the workspace.

    Raises:
        Unauthenticated: this is no workspace.
    """
    url = os.environ.get("CODER_AGENT_URL") or os.environ.get("CODER_URL") or context.url
    token = os.environ.get("CODER_AGENT_TOKEN", "")
    if not token and (file := os.environ.get("CODER_AGENT_TOKEN_FILE")):
        token = Path(file).read_text().strip()
    if not url or not token:
        raise Unauthenticated("this works only inside a workspace: CODER_AGENT_URL and CODER_AGENT_TOKEN are not set")
    return context.client_for(url, token=token)
