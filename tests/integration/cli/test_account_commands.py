"""The commands about users and tokens, against a whole server."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from tests.integration.cli.runner import Runner
from tests.server import PASSWORD, Site

pytestmark = pytest.mark.anyio
CTRL_C = "\x03"


@pytest.fixture
def cli(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "config")


@pytest.fixture
async def signed_in(cli: Runner, server: Site) -> Runner:
    await cli("login", server.url, "--token", server.admin.token)
    return cli


async def test_login_stores_a_session_of_its_own(cli: Runner, server: Site) -> None:
    done = await cli("login", server.url, "--token", server.admin.token)
    assert "You're authenticated" in done.stderr
    stored = cli.folder / "session"
    assert stored.read_text() != server.admin.token
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert (cli.folder / "url").read_text() == server.url
    assert (await cli("login", "token")).stdout.strip() == stored.read_text()
    (me,) = json.loads((await cli("whoami", "--output", "json")).stdout)
    assert (me["username"], me["url"]) == ("admin", server.url)


async def test_login_by_a_pasted_token(cli: Runner, server: Site) -> None:
    done = await cli("login", server.url, data="no-token\n", status=1)
    assert "That's not a valid token!" in done.stderr
    assert not (cli.folder / "session").exists()
    await cli("login", server.url, data=server.admin.token + "\n")
    assert (cli.folder / "session").read_text() == server.admin.token


async def test_login_with_a_password_at_a_terminal(cli: Runner, server: Site) -> None:
    """There is no page that shows a token, so the password is asked for here."""
    shown = await typed(cli, ("login", server.url), {b"email?": "admin@example.com", b"password:": PASSWORD})
    assert b"Welcome to Warren, admin!" in shown
    assert PASSWORD.encode() not in shown
    (me,) = json.loads((await cli("whoami", "--output", "json")).stdout)
    assert me["username"] == "admin"


async def test_login_with_a_bad_token_or_server(cli: Runner, server: Site) -> None:
    done = await cli("login", server.url, "--token", "bad", status=1)
    assert "error: " in done.stderr
    done = await cli("login", "http://127.0.0.1:1", status=1)
    assert "cannot reach http://127.0.0.1:1" in done.stderr
    environment = Runner(cli.folder, {"CODER_SESSION_TOKEN": server.admin.token})
    done = await environment("login", server.url, status=1)
    assert "unset " in done.stderr
    await environment("login", server.url, "--use-token-as-session")
    assert (cli.folder / "session").read_text() == server.admin.token


async def test_logout_ends_the_session(signed_in: Runner, server: Site) -> None:
    token = (signed_in.folder / "session").read_text()
    await signed_in("logout", "--yes")
    assert list(signed_in.folder.iterdir()) == []
    done = await signed_in("whoami", "--url", server.url, "--token", token, status=1)
    assert "hint: warren login" in done.stderr
    assert "You are not logged in" in (await signed_in("logout", "-y", status=1)).stderr


async def test_the_life_of_a_user(signed_in: Runner) -> None:
    created = (await signed_in("users", "create", "-u", "bob", "-e", "bob@example.com")).stdout
    assert "Password: " in created
    (_, row) = (await signed_in("users", "list", "-c", "username,email")).stdout.splitlines()[1:]
    assert row.split() == ["bob", "bob@example.com"]
    await signed_in("users", "suspend", "bob", "--yes")
    assert json.loads((await signed_in("users", "show", "bob", "-o", "json")).stdout)["status"] == "suspended"
    assert "suspended already" in (await signed_in("users", "suspend", "bob", "--yes", status=1)).stderr
    await signed_in("users", "activate", "bob", "--yes")
    await signed_in("users", "edit-roles", "bob", "--roles", "template-admin", "--yes")
    roles = json.loads((await signed_in("users", "show", "bob", "-o", "json")).stdout)["roles"]
    assert [role["name"] for role in roles] == ["template-admin"]
    assert "no role `king`" in (await signed_in("users", "edit-roles", "bob", "--roles", "king", status=1)).stderr
    await signed_in("users", "delete", "bob")
    assert "bob" not in (await signed_in("users", "list")).stdout


async def test_the_life_of_a_token(signed_in: Runner, server: Site) -> None:
    token = (await signed_in("tokens", "create", "--name", "ci", "--lifetime", "24h")).stdout.strip()
    other = Runner(signed_in.folder / "other", {"CODER_URL": server.url, "CODER_SESSION_TOKEN": token})
    assert "admin" in (await other("whoami")).stdout
    (listed,) = json.loads((await signed_in("tokens", "list", "-o", "json")).stdout)
    assert (listed["token_name"], listed["lifetime_seconds"]) == ("ci", 86_400)
    assert "ci" in (await signed_in("tokens", "view", "ci")).stdout
    await signed_in("tokens", "remove", token)
    assert "hint: warren login" in (await other("whoami", status=1)).stderr
    assert "No tokens found." in (await signed_in("tokens", "list")).stderr
    assert "ci" in (await signed_in("tokens", "list", "--include-expired")).stdout
    await signed_in("tokens", "remove", "ci", "--delete")


async def test_the_git_key_is_printed_and_replaced(signed_in: Runner) -> None:
    before = (await signed_in("publickey")).stdout
    assert before.startswith("ssh-ed25519 ")
    after = (await signed_in("publickey", "--reset", "--yes")).stdout
    assert after.startswith("ssh-ed25519 ")
    assert after != before


async def test_header_command_and_headers_reach_the_server(signed_in: Runner) -> None:
    done = await signed_in("whoami", "--header-command", "exit 3", status=1)
    assert "the header command failed with status 3" in done.stderr
    await signed_in("whoami", "--header", "X-One=1", "--header-command", 'echo "X-Url=$CODER_URL"')


async def test_config_ssh(signed_in: Runner, tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "config"
    words = ("config-ssh", "--ssh-config-file", str(path), "--coder-binary-path", "/usr/bin/warren")
    done = await signed_in(*words, "--dry-run", "--yes")
    assert "+Host coder.*" in done.stdout
    assert not path.exists()
    await signed_in(*words, "--yes")
    first = path.read_text()
    assert f"ProxyCommand /usr/bin/warren --global-config {signed_in.folder} ssh --stdio" in first
    path.write_text("Host mine\n\tUser me\n\n" + first)
    await signed_in(*words, "--yes", "--wait", "no", "-o", "ForwardAgent=yes")
    second = path.read_text()
    assert second.startswith("Host mine\n\tUser me\n\n")
    assert "\tForwardAgent=yes" in second
    assert "# :wait=no" in second
    await signed_in(*words, "--yes", "--use-previous-options")
    assert path.read_text() == second
    assert "No changes to make." in (await signed_in(*words, "--yes", "--use-previous-options")).stderr


async def test_ctrl_c_ends_a_prompt(cli: Runner, server: Site) -> None:
    shown = await typed(cli, ("login", server.url), {b"email?": CTRL_C})
    assert b"Traceback" not in shown
    assert b"that's not a valid email" not in shown


async def typed(cli: Runner, words: tuple[str, ...], answers: Mapping[bytes, str]) -> bytes:
    """Run a command at a terminal, answer its questions in order, and return what it showed."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "warren", *words]
    process = subprocess.Popen(  # noqa: ASYNC220  it does not block
        ["setsid", "--ctty", *command], stdin=slave, stdout=slave, stderr=slave, env=cli.environment
    )
    os.close(slave)
    shown = b""
    try:
        with anyio.fail_after(15):
            for question, answer in answers.items():
                start = len(shown)
                while question not in shown[start:]:
                    await anyio.wait_readable(master)
                    shown += os.read(master, 4096)
                os.write(master, answer.encode() + b"\n")
            with suppress(OSError):  # how a terminal says that nobody has it open any more
                while True:
                    await anyio.wait_readable(master)
                    shown += os.read(master, 4096)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    return shown
