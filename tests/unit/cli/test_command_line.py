"""The command line as its users meet it: run the root command in this process, look at exit code and streams."""

import click
import pytest
from inline_snapshot import snapshot

from warren.cli.command import GLOBALS
from warren.cli.commands.completion import END, START, with_section
from warren.cli.commands.ssh import split_options
from warren.cli.completion_scripts import SCRIPTS, script
from warren.cli.context import same_version
from warren.cli.main import TABLE, program_name, root_command, run
from warren.errors import Unavailable


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("URL", "SESSION_TOKEN", "HEADER", "VERBOSE"):
        monkeypatch.delenv(f"WARREN_{name}", raising=False)
        monkeypatch.delenv(f"CODER_{name}", raising=False)
    monkeypatch.setenv("WARREN_CONFIG_DIR", str(tmp_path_factory.mktemp("config")))


def options_of(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, str]:
    assert run([*argv, "--debug-options"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}


def test_help_lists_commands_by_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for section in ("Account:", "Workspaces:", "Connecting:", "Templates:", "Global options:"):
        assert section in text
    assert "gitssh" not in text


def test_help_imports_no_command_and_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from warren.cli.main import run; run(['--help'])\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in "
        "{'anyio', 'asyncio', 'msgspec', 'rich', 'asyncssh', 'litestar', 'httpx2', 'structlog'} "
        "or m.startswith('warren.cli.commands.')), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stop", "-h"]) == 0
    assert capsys.readouterr().out == snapshot("""\
Usage: warren stop [OPTIONS] WORKSPACE

  Stop a workspace, named as `name` or `owner/name`.

Options:
  -y, --yes   Bypass prompts.
  -h, --help  Show this message and exit.

Run `warren --help` for a list of global options.
""")


def test_every_command_of_ours_has_help() -> None:
    root = root_command()
    ctx = click.Context(root, info_name="warren")
    missing: list[str] = []
    for name in TABLE:
        try:
            found = root.get_command(ctx, name)
        except ModuleNotFoundError:
            continue
        if found is None or not (found.help or "").strip():
            missing.append(name)
    assert missing == []


def test_unknown_commands_get_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["templtes"]) == 1
    assert "did you mean `warren templates`?" in capsys.readouterr().err


def test_not_logged_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == snapshot("""\
Encountered an error running "warren list", see "warren list --help" for more information
error: You are not logged in. Try logging in using 'warren login <url>'.
""")


def test_global_options_stand_anywhere_and_the_deeper_wins(capsys: pytest.CaptureFixture[str]) -> None:
    found = options_of(capsys, "--url", "http://a", "list", "--url", "http://b", "--header", "A=1,B=2")
    assert found["url"] == "'http://b' (commandline)"
    assert found["header"] == "('A=1', 'B=2') (commandline)"


def test_arguments_are_not_taken_for_global_options_of_the_same_name() -> None:
    values: dict[str, object] = {}
    words = ["--url", "http://127.0.0.1:1", "tokens", "remove", "--token", "secret", "ci"]
    with pytest.raises(Unavailable):
        root_command().main(words, standalone_mode=False, obj=values)
    assert (values["url"], values["token"]) == ("http://127.0.0.1:1", "secret")


def test_variables_of_both_names(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODER_SSH_WAIT", "yes")
    assert options_of(capsys, "ssh", "dev", "--disable-autostart=false")["wait"] == "'yes' (environment)"
    monkeypatch.setenv("WARREN_SSH_WAIT", "no")
    assert run(["ssh", "--debug-options", "dev"]) == 0
    assert "wait: 'no' (environment)" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("false", False), ("", False), ("1", True)])
def test_boolean_variables(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str, *, expected: bool
) -> None:
    monkeypatch.setenv("CODER_SSH_STDIO", value)
    assert run(["ssh", "--debug-options", "dev"]) == 0
    assert f"stdio: {expected}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--activate=false"], "False"),
        (["--activate=true"], "True"),
        (["--no-activate"], "False"),
        ([], "True"),
    ],
)
def test_booleans_take_values(capsys: pytest.CaptureFixture[str], argv: list[str], expected: str) -> None:
    assert options_of(capsys, "templates", "push", *argv)["activate"].split()[0] == expected


@pytest.mark.parametrize(
    ("argv", "workspace", "remote"),
    [
        (["dev"], "dev", ()),
        (["dev", "ls", "-la"], "dev", ("ls", "-la")),
        (["dev", "--", "ls", "-la"], "dev", ("ls", "-la")),
        (["-t", "dev", "--wait=no", "top", "-b"], "dev", ("top", "-b")),
        (["--env", "A=b", "dev", "-e", "C=d", "env"], "dev", ("env",)),
        (["--stdio", "--hostname-suffix", "coder", "dev.coder"], "dev.coder", ()),
        (["dev", "--", "--version"], "dev", ("--version",)),
    ],
)
def test_ssh_leaves_the_remote_command_alone(
    capsys: pytest.CaptureFixture[str], argv: list[str], workspace: str, remote: tuple[str, ...]
) -> None:
    assert run(["ssh", "--debug-options", *argv]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"workspace: {workspace!r} (commandline)" in lines
    assert next(line for line in lines if line.startswith("remote: ")).startswith(f"remote: {remote!r}")


def test_splits_options_with_their_values() -> None:
    known = [click.Option(["--env", "-e"]), click.Option(["--tty", "-t"], is_flag=True)]
    assert split_options(known, ["-t", "-eA", "--env", "B", "x", "-y"]) == (["-t", "-eA", "--env", "B"], ["x", "-y"])
    assert split_options(known, ["--env=B", "--", "-x"]) == (["--env=B"], ["-x"])
    assert split_options(known, ["-"]) == ([], ["-"])


def test_short_names(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["ls"], ["rm"], ["users", "ls"], ["tokens", "rm"], ["template", "rm"], ["tunnel"], ["fav"]):
        assert run([*argv, "--help"]) == 0, argv
    capsys.readouterr()


def test_program_names() -> None:
    assert program_name("/usr/bin/coder") == "coder"
    assert program_name("/x/warren/__main__.py") == "warren"


def test_global_options_have_both_variables() -> None:
    for option in GLOBALS:
        if option.envvar:
            assert [name.partition("_")[0] for name in option.envvar] == ["WARREN", "CODER"]


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_completion_scripts_are_valid(shell: str) -> None:
    import shutil
    import subprocess

    text = script(shell, "warren")
    assert "warren completion candidates" in text
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=text, text=True, check=True)


def test_completion_section_is_replaced() -> None:
    once = with_section("alias a=b", "one")
    assert once == f"alias a=b\n{START}\none\n{END}\n"
    assert with_section(once + "tail\n", "two") == f"alias a=b\n{START}\ntwo\n{END}\ntail\n"


@pytest.mark.parametrize(
    ("theirs", "same"),
    [
        ("v1.2.9", True),
        ("v1.3.0", False),
        ("", True),
        ("v1.2.0-devel+abc", True),
        ("v2.2.0", False),
        ("v2.36.0+warren-1.2.0", True),
        ("v1.2.0+warren-1.3.0", False),
    ],
)
def test_versions_agree_in_two_numbers(theirs: str, *, same: bool) -> None:
    assert same_version("1.2.3", theirs) == same
