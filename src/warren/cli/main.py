"""The root command: what there is, from which module, and what happens to errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from warren.cli.command import HELP_NAMES, Lazy, LazyGroup

COMMANDS = "warren.cli.commands"

ACCOUNT, WORKSPACES, CONNECT, TEMPLATES, RUN, OTHER = (
    "Account",
    "Workspaces",
    "Connecting",
    "Templates",
    "Running Warren",
    "Other",
)

TABLE = {
    "login": Lazy(f"{COMMANDS}.account:login", "Sign in to a server.", ACCOUNT),
    "logout": Lazy(f"{COMMANDS}.account:logout", "Sign out of the server.", ACCOUNT),
    "whoami": Lazy(f"{COMMANDS}.account:whoami", "Say who is signed in, and where.", ACCOUNT),
    "users": Lazy(f"{COMMANDS}.users:users", "Manage users.", ACCOUNT, aliases=("user",)),
    "tokens": Lazy(f"{COMMANDS}.tokens:tokens", "Manage API tokens.", ACCOUNT, aliases=("token",)),
    "publickey": Lazy(f"{COMMANDS}.account:publickey", "Print your public key for git.", ACCOUNT),
    "create": Lazy(f"{COMMANDS}.create:create", "Create a workspace.", WORKSPACES),
    "list": Lazy(f"{COMMANDS}.workspaces:list_workspaces", "List workspaces.", WORKSPACES, aliases=("ls",)),
    "show": Lazy(f"{COMMANDS}.show:show", "Show a workspace's resources and agents.", WORKSPACES),
    "start": Lazy(f"{COMMANDS}.lifecycle:start", "Start a workspace.", WORKSPACES),
    "stop": Lazy(f"{COMMANDS}.lifecycle:stop", "Stop a workspace.", WORKSPACES),
    "restart": Lazy(f"{COMMANDS}.lifecycle:restart", "Stop a workspace and start it again.", WORKSPACES),
    "update": Lazy(f"{COMMANDS}.lifecycle:update", "Move a workspace to its template's active version.", WORKSPACES),
    "delete": Lazy(f"{COMMANDS}.lifecycle:delete", "Delete a workspace.", WORKSPACES, aliases=("rm",)),
    "rename": Lazy(f"{COMMANDS}.workspaces:rename", "Rename a workspace.", WORKSPACES),
    "favorite": Lazy(
        f"{COMMANDS}.workspaces:favorite", "Mark a workspace as a favourite.", WORKSPACES, aliases=("fav", "favourite")
    ),
    "unfavorite": Lazy(
        f"{COMMANDS}.workspaces:unfavorite", "Unmark a favourite.", WORKSPACES, aliases=("unfav", "unfavourite")
    ),
    "autoupdate": Lazy(f"{COMMANDS}.workspaces:autoupdate", "Choose if starts take the newest version.", WORKSPACES),
    "schedule": Lazy(f"{COMMANDS}.schedule:schedule", "Schedule starts and stops.", WORKSPACES),
    "logs": Lazy(f"{COMMANDS}.logs:logs", "Show the logs of a workspace's build and agents.", WORKSPACES),
    "state": Lazy(f"{COMMANDS}.state:state", "Pull or push a workspace's Terraform state.", WORKSPACES),
    "ssh": Lazy(f"{COMMANDS}.ssh:ssh", "Open a shell or run a command in a workspace.", CONNECT),
    "config-ssh": Lazy(f"{COMMANDS}.config_ssh:config_ssh", "Teach OpenSSH to reach your workspaces.", CONNECT),
    "port-forward": Lazy(
        f"{COMMANDS}.port_forward:port_forward", "Forward local ports to a workspace.", CONNECT, aliases=("tunnel",)
    ),
    "ping": Lazy(f"{COMMANDS}.ping:ping", "Ping a workspace and explain its path.", CONNECT),
    "speedtest": Lazy(f"{COMMANDS}.speedtest:speedtest", "Measure the tunnel to a workspace.", CONNECT),
    "netcheck": Lazy(f"{COMMANDS}.netcheck:netcheck", "Report on this machine's network.", CONNECT),
    "doctor": Lazy(f"{COMMANDS}.doctor:doctor", "Find out what keeps connections from working well.", CONNECT),
    "netlab": Lazy(f"{COMMANDS}.netlab:netlab", "Reproduce a network on this machine.", CONNECT),
    "open": Lazy(f"{COMMANDS}.open:open_group", "Open a workspace in an editor.", CONNECT),
    "templates": Lazy(f"{COMMANDS}.templates:templates", "Manage templates.", TEMPLATES, aliases=("template",)),
    "server": Lazy(f"{COMMANDS}.server:server", "Run the server.", RUN),
    "reset-password": Lazy(f"{COMMANDS}.server:reset_password", "Change a user's password in the database.", RUN),
    "agent": Lazy(f"{COMMANDS}.agent:agent", "Run the workspace agent.", RUN, hidden=True),
    "provisioner": Lazy(
        f"{COMMANDS}.provisioner:provisioner", "Run and manage provisioners.", RUN, aliases=("provisionerd",)
    ),
    "completion": Lazy(f"{COMMANDS}.completion:completion", "Install or print shell completion.", OTHER),
    "dotfiles": Lazy(f"{COMMANDS}.dotfiles:dotfiles", "Apply a dotfiles repository.", OTHER),
    "stat": Lazy(f"{COMMANDS}.stat:stat", "Show the resource use of this machine.", OTHER),
    "version": Lazy(f"{COMMANDS}.version:version", "Print the version.", OTHER),
    "gitssh": Lazy(f"{COMMANDS}.gitssh:gitssh", "Run ssh for git with the user's key.", OTHER, hidden=True),
    "gitaskpass": Lazy(f"{COMMANDS}.gitssh:gitaskpass", "Answer git's questions.", OTHER, hidden=True),
    "connect": Lazy(f"{COMMANDS}.ssh:connect_group", "Say whether a host is reachable.", OTHER, hidden=True),
    "vscodessh": Lazy(f"{COMMANDS}.vscodessh:vscodessh", "Serve the VS Code extension.", OTHER, hidden=True),
}


LASTING = frozenset({"server", "agent", "provisioner", "provisionerd", "wsproxy"})
"""Commands that live long: they end as programs usually do."""


def program_name(argv0: str) -> str:
    """Say under which name we were started: `warren`, or `coder` in a workspace."""
    name = os.path.basename(argv0)  # noqa: PTH119  pathlib costs 10 ms here
    return "warren" if name in {"__main__.py", "-c", ""} else name


def root_command() -> LazyGroup:
    """Make the root command."""

    version = click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        hidden=True,
        callback=_print_version,
    )
    return LazyGroup(
        name="warren",
        table=TABLE,
        params=[version],
        help="Warren: cloud development environments over an end-to-end encrypted network.",
        context_settings={**HELP_NAMES, "max_content_width": 110},
        no_args_is_help=False,
        invoke_without_command=True,
        callback=_root,
    )


def _print_version(ctx: click.Context, _param: click.Parameter, value: object) -> None:
    if value and not ctx.resilient_parsing:
        from warren import __version__

        click.echo(f"Warren v{__version__}")
        ctx.exit()


def _root() -> None:
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(argv: Sequence[str], program: str = "warren") -> int:
    """Run a command; return its exit code. Nothing but the exit code and the streams leaves it."""
    from warren.errors import WarrenError

    values: dict[str, object] = {}
    try:
        root_command().main(list(argv), prog_name=program, standalone_mode=False, obj=values)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        return 1
    except click.ClickException as error:
        error.show()
        return 1
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:
        _silence_stdout()
        return 1
    except WarrenError as error:
        return _report(error, argv, program, values)
    except BaseExceptionGroup as group:
        return _report_group(group, argv, program, values)
    return 0


def main() -> None:
    """Start of the program."""
    arguments = sys.argv[1:]
    if "GIT_ASKPASS" in os.environ and len(arguments) == 1 and " for '" in arguments[0]:
        arguments = ["gitaskpass", *arguments]
    status = run(arguments, program_name(sys.argv[0]))
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        _silence_stdout()
    if not LASTING.isdisjoint(arguments[:1]):
        sys.exit(status)
    # Everything is closed and flushed; taking the interpreter apart would cost a session 50 ms more.
    os._exit(status)


def _report(error: Exception, argv: Sequence[str], program: str, values: dict[str, object]) -> int:
    from warren.cli import errors, ui
    from warren.errors import WarrenError

    assert isinstance(error, WarrenError)
    words = _command_words(argv)
    terminal = ui.Terminal.of_process(force_tty=bool(values.get("force_tty")))
    return errors.report(terminal, " ".join([program, *words]), error, verbose=bool(values.get("verbose")))


def _report_group(
    group: BaseExceptionGroup[BaseException], argv: Sequence[str], program: str, values: dict[str, object]
) -> int:
    """Report what broke a task group when it is one error of ours; anything else is a bug and keeps its traceback."""
    from warren.errors import WarrenError

    ours, rest = group.split(WarrenError)
    while isinstance(ours, BaseExceptionGroup):
        ours = ours.exceptions[0]  # pyright: ignore[reportAssignmentType]  narrows to the leaf in the end
    if rest is not None:
        interrupted, bugs = rest.split(KeyboardInterrupt)
        if bugs is not None:
            raise group
        if interrupted is not None and ours is None:
            return 1
    assert isinstance(ours, WarrenError)
    return _report(ours, argv, program, values)


def _command_words(argv: Sequence[str]) -> list[str]:
    """Say which command the arguments name, for messages: the words before the first that is not a command."""
    words: list[str] = []
    found: click.Command | None = root_command()
    ctx = click.Context(root_command(), info_name="warren")
    for word in argv:
        if word.startswith("-"):
            continue
        following = found.get_command(ctx, word) if isinstance(found, click.Group) else None
        if following is None:
            if words:
                break
            continue
        words.append(word)
        found = following
    return words


def _silence_stdout() -> None:
    """Keep the interpreter from complaining at exit about a reader who left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
