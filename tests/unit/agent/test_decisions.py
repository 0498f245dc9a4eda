"""Small decisions of the agent, as tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from warren.agent.apps import HealthTracker
from warren.agent.commands import arguments_for
from warren.agent.config import AgentConfig, check_url, read_headers, read_subsystems, read_token
from warren.agent.cron import next_run
from warren.agent.linux import LinuxSystem
from warren.agent.manifest import App, AppHealth, Banner, MetadataDescription, Script
from warren.agent.metadata import timeout_seconds
from warren.agent.motd import greeting, read_motd
from warren.agent.scripts import Folders, log_file
from warren.agent.speedtest import Plan, read_request
from warren.agent.ssh import policy
from warren.agent.ssh.host_key import ed25519_pem, rsa_pem, seed_for
from warren.agent.ssh.policy import SessionType
from warren.agent.terminal_modes import Attributes, with_modes
from warren.agent.terminals import terminal_variables
from warren.errors import Invalid, NotFound

NOW = datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("*/5 * * * *", NOW.replace(second=5)),
        ("0 */5 * * * *", NOW.replace(second=0, minute=5)),
        ("0 30 9 * * 1-5", NOW.replace(second=0, minute=30, hour=9)),
        ("1 0 0 1 * *", datetime(2026, 2, 1, 0, 0, 1, tzinfo=UTC)),
    ],
)
def test_seconds_come_first_in_cron(expression: str, due: datetime) -> None:
    assert next_run(expression, NOW) == due


@pytest.mark.parametrize("expression", ["", "* * * *", "x * * * * *", "* * * * * * *", "0 0 0 30 2 *"])
def test_bad_cron_is_refused(expression: str) -> None:
    with pytest.raises(Invalid):
        next_run(expression, NOW)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", ["/bin/zsh", "-l"]),
        ("echo hi", ["/bin/zsh", "-c", "echo hi"]),
        ("#!/bin/sh -e\necho", ["/bin/sh", "-e", "-c", "#!/bin/sh -e\necho"]),
        (
            "\n  #!/usr/bin/env python3\nprint()",
            ["/usr/bin/env", "python3", "-c", "\n  #!/usr/bin/env python3\nprint()"],
        ),
    ],
)
def test_how_commands_run(text: str, arguments: list[str]) -> None:
    assert arguments_for(text, "/bin/zsh") == arguments


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        ({}, SessionType.SSH),
        ({policy.TYPE_VARIABLE: "VSCode"}, SessionType.VSCODE),
        ({policy.TYPE_VARIABLE: "jetbrains"}, SessionType.JETBRAINS),
        ({policy.TYPE_VARIABLE: "emacs"}, SessionType.UNKNOWN),
        ({policy.TYPE_VARIABLE: "unknown"}, SessionType.UNKNOWN),
    ],
)
def test_session_types(sent: dict[str, str], kind: SessionType) -> None:
    request = policy.read_request({**sent, policy.CONTAINER_VARIABLE: "box", "LANG": "C"})
    assert (request.type, request.container, dict(request.environment)) == (kind, "box", {"LANG": "C"})


@pytest.mark.parametrize(
    ("command", "transfers"),
    [("scp -t .", True), ("/usr/bin/rsync x", True), ("nc", True), ("scpx", False), ("echo scp", False), ("", False)],
)
def test_which_commands_transfer_files(command: str, transfers: bool) -> None:
    assert policy.transfers_files(command) is transfers


def test_the_seed_of_the_host_key() -> None:
    assert seed_for("alice", "dev", "main") == 5808831876770788593


def test_host_keys_repeat_and_differ() -> None:
    seed, other = seed_for("a", "b", "c"), seed_for("a", "b", "d")
    assert _public(ed25519_pem(seed)) == _public(ed25519_pem(seed)) != _public(ed25519_pem(other))
    assert _public(rsa_pem(seed)) == _public(rsa_pem(seed))


def _public(pem: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_ssh_private_key(pem, None)
    return key.public_key().public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH)


def test_the_rsa_key_signs() -> None:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = serialization.load_ssh_private_key(rsa_pem(-7), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 2048
    signature = key.sign(b"text", padding.PKCS1v15(), hashes.SHA256())
    key.public_key().verify(signature, b"text", padding.PKCS1v15(), hashes.SHA256())


def test_greeting() -> None:
    banners = [Banner(True, " down at 5 \n"), Banner(False, "hidden"), Banner(True, "  ")]
    assert greeting(banners, "hello\nworld") == b"down at 5\r\n\r\nhello\r\nworld\r\n"
    assert greeting([], "") == b""


def test_a_hushed_login_shows_no_motd(tmp_path: Path) -> None:
    motd = tmp_path / "motd"
    motd.write_text("welcome")
    assert read_motd(str(motd), str(tmp_path)) == "welcome"
    assert read_motd(str(tmp_path / "none"), str(tmp_path)) == ""
    (tmp_path / ".hushlogin").touch()
    assert read_motd(str(motd), str(tmp_path)) == ""


def test_health_needs_more_failures_than_the_threshold() -> None:
    tracker = HealthTracker(App(UUID(int=1), "app", AppHealth.INITIALIZING, "http://x", timedelta(1), 2))
    tracker.probed(well=False)
    tracker.probed(well=False)
    assert tracker.health is AppHealth.INITIALIZING
    tracker.probed(well=False)
    assert tracker.health is AppHealth.UNHEALTHY
    tracker.probed(well=True)
    assert tracker.health is AppHealth.HEALTHY
    tracker.probed(well=False)
    assert tracker.health is AppHealth.HEALTHY


@pytest.mark.parametrize(
    ("interval", "timeout", "seconds"),
    [(0, 0, 3.0), (10, 0, 10.0), (10, 2, 2.0), (0, 4, 4.0)],
)
def test_how_long_metadata_may_take(interval: int, timeout: int, seconds: float) -> None:
    description = MetadataDescription("k", "s", "", timedelta(seconds=interval), timedelta(seconds=timeout))
    assert timeout_seconds(description) == seconds


@pytest.mark.parametrize(
    ("line", "plan"),
    [
        (b'{"version":2,"time":5000000000,"direction":0}', Plan(True, 5.0)),
        (b'{"version":2,"time":5000000000,"direction":1}', Plan(False, 5.0)),
        (b'{"version":2,"time":99000000000000,"direction":1}', Plan(False, 60.0)),
        (
            b'{"version":1,"time":1,"direction":0}',
            "version mismatch! Server is version 2, client is version 1",
        ),
    ],
)
def test_speedtest_requests(line: bytes, plan: object) -> None:
    assert read_request(line) == plan


def test_a_malformed_speedtest_request_is_refused_with_a_reason() -> None:
    assert "bad request" in str(read_request(b"{"))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {"TERM": "xterm-256color", "LC_CTYPE": "C.UTF-8"}),
        ({"LANG": "C"}, {"TERM": "xterm-256color", "LC_CTYPE": "C.UTF-8"}),
        ({"LANG": "de_DE.UTF-8"}, {"TERM": "xterm-256color"}),
        ({"LANG": "C.utf8"}, {"TERM": "xterm-256color"}),
        ({"LC_ALL": "C"}, {"TERM": "xterm-256color"}),
        ({"LC_CTYPE": "C", "LANG": "C.UTF-8"}, {"TERM": "xterm-256color", "LC_CTYPE": "C.UTF-8"}),
    ],
)
def test_terminals_speak_utf8(environment: dict[str, str], expected: dict[str, str]) -> None:
    assert terminal_variables(environment) == expected


def test_where_scripts_log() -> None:
    folders = Folders(Path("/logs"), Path("/data"))
    script = Script(UUID(int=1), UUID(int=2), "true")
    assert log_file(script, folders, "/home/a", {}) == Path(f"/logs/coder-script-{UUID(int=2)}.log")
    for path, expected in [("~/x", "/home/a/x"), ("$D/x", "/d/x"), ("sub/x", "/logs/sub/x"), ("/abs", "/abs")]:
        named = Script(UUID(int=1), UUID(int=2), "true", log_path=path)
        assert log_file(named, folders, "/home/a", {"D": "/d"}) == Path(expected)


def test_the_shell_comes_from_the_password_file(tmp_path: Path) -> None:
    passwd = tmp_path / "passwd"
    system = LinuxSystem({"SHELL": "/bin/fallback"}, passwd=passwd)
    name = system.user_name()
    passwd.write_text(f"other:x:1:1::/:/bin/other\n{name}:x:0:0::/root:/bin/chosen\n")
    assert system.shell() == "/bin/chosen"
    passwd.write_text("other:x:1:1::/:/bin/other\n")
    assert system.shell() == "/bin/fallback"
    passwd.write_text(f"{name}:x:0:0\n")
    with pytest.raises(NotFound):
        system.shell()
    passwd.write_text("")
    with pytest.raises(NotFound):
        LinuxSystem({}, passwd=passwd).shell()


def test_settings(tmp_path: Path) -> None:
    assert check_url("https://example.com/") == "https://example.com"
    for bad in ("", "example.com", "ftp://x", "http://"):
        with pytest.raises(Invalid):
            check_url(bad)
    file = tmp_path / "token"
    file.write_text(" abc \n")
    assert read_token("direct", str(file)) == "direct"
    assert read_token("", str(file)) == "abc"
    with pytest.raises(Invalid, match="must be set"):
        read_token("", "")
    with pytest.raises(Invalid, match="cannot read"):
        read_token("", str(tmp_path / "none"))
    assert read_subsystems("envbox, exectrace") == ("envbox", "exectrace")
    with pytest.raises(Invalid, match="windows"):
        read_subsystems("envbox,windows")
    assert read_headers(("a=b=c",), "echo d=e") == {"a": "b=c", "d": "e"}
    with pytest.raises(Invalid):
        read_headers(("nothing",), "")
    with pytest.raises(Invalid, match="failed"):
        read_headers((), "exit 3")


@pytest.mark.parametrize(
    ("url", "rpc"),
    [
        ("http://h:1", "ws://h:1/api/v2/workspaceagents/me/rpc"),
        ("https://h/base/", "wss://h/base/api/v2/workspaceagents/me/rpc"),
    ],
)
def test_where_the_control_plane_is(url: str, rpc: str) -> None:
    assert AgentConfig(url, "t", Path("/l"), Path("/d")).rpc_url == rpc


def test_a_token_is_not_shown() -> None:
    assert "hush" not in repr(AgentConfig("http://h", "hush", Path("/l"), Path("/d"), {"X": "hush"}))


def test_terminal_modes() -> None:
    import termios

    unset: list[bytes | int] = [b"\0"] * 32
    attributes: Attributes = [termios.ICRNL, termios.OPOST, 0, termios.ECHO | termios.ICANON, 0, 0, unset]
    changed = with_modes(attributes, {3: 8, 1: 255, 53: 0, 36: 0, 38: 1, 200: 1, 128: 38400})
    assert changed[0] == termios.IXON
    assert changed[3] == termios.ICANON
    characters = changed[6]
    assert isinstance(characters, list)
    assert (characters[termios.VERASE], characters[termios.VINTR]) == (b"\x08", b"\0")
    assert attributes[6] == [b"\0"] * 32, "the given attributes stay as they are"
