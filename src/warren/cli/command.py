"""How commands are declared, found and run: lazily imported, global options anywhere, async bodies."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, cast

import click
from click.core import ParameterSource

from warren.cli import params

HELP_NAMES = {"help_option_names": ["-h", "--help"]}
SHORT_NAMES = {"ls": ("list",), "rm": ("delete", "remove")}


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command that is imported when used; `summary` is its line in the parent's help."""

    target: str
    summary: str
    section: str = ""
    hidden: bool = False
    aliases: tuple[str, ...] = ()


PREFIX = "global_"  # keeps the global options' values apart from arguments of the same name, such as `login URL`


def _values(ctx: click.Context) -> dict[str, object]:
    """Return where the global options are collected; made by `main.run`, for all commands of one run."""
    # the root's object is always this dictionary; click does not know its types
    return cast("dict[str, object]", ctx.find_root().ensure_object(dict))


def _store(ctx: click.Context, param: click.Parameter, value: object) -> object:
    """Note a global option; one written at a deeper command wins over the same one further up."""
    values = _values(ctx)
    written = ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    name = (param.name or "").removeprefix(PREFIX)
    if written or name not in values:
        values[name] = value
    return value


def _global(*names: str, **attributes: Any) -> click.Option:  # Any: passed on to click
    kind = attributes.pop("cls", click.Option)
    env = attributes.pop("env", "")
    if env:
        attributes["envvar"] = params.environment(env)
    if kind is params.FlagOption:
        attributes["is_flag"] = True
    own_name = PREFIX + names[0].lstrip("-").replace("-", "_")
    return kind((*names, own_name), expose_value=False, callback=_store, is_eager=True, **attributes)


FLAG = params.FlagOption
LIST = params.ListOption

GLOBALS: tuple[click.Option, ...] = (
    _global("--url", env="URL", metavar="URL", help="URL of the server."),
    _global("--token", env="SESSION_TOKEN", metavar="TOKEN", help="Session token to use instead of the stored one."),
    _global("--global-config", env="CONFIG_DIR", metavar="DIR", help="Folder of the client's configuration."),
    _global(
        "--header", env="HEADER", cls=LIST, multiple=True, metavar="KEY=VALUE", help="HTTP header of every request."
    ),
    _global("--header-command", env="HEADER_COMMAND", metavar="COMMAND", help="Command that prints such headers."),
    _global("--client-tls-ca-file", env="CLIENT_TLS_CA_FILE", metavar="FILE", help="Certificate authority to trust."),
    _global("--client-tls-cert-file", env="CLIENT_TLS_CERT_FILE", metavar="FILE", help="Client certificate."),
    _global("--client-tls-key-file", env="CLIENT_TLS_KEY_FILE", metavar="FILE", help="Key of the client certificate."),
    _global("--no-version-warning", env="NO_VERSION_WARNING", cls=FLAG, help="Do not warn when versions differ."),
    _global("--no-feature-warning", env="NO_FEATURE_WARNING", cls=FLAG, help="Do not warn about licences."),
    _global("--disable-direct-connections", env="DISABLE_DIRECT_CONNECTIONS", cls=FLAG, help="Use relays only."),
    _global("--disable-port-mapping", env="DISABLE_PORT_MAPPING", cls=FLAG, help="Ask no gateway for a port."),
    _global(
        "--tailnet-listen-port",
        env="TAILNET_LISTEN_PORT",
        type=int,
        default=0,
        help="UDP port of the network; 0 is any.",
    ),
    _global(
        "--tunnel-stack",
        env="TUNNEL_STACK",
        type=click.Choice(("auto", "kernel", "portable")),
        help="TCP inside tunnels: the kernel's where a namespace can be had (auto), or one of the two.",
    ),
    _global(
        "--tunnel-congestion-control",
        env="TUNNEL_CONGESTION_CONTROL",
        type=click.Choice(("auto", "bbr", "cubic")),
        help="How the kernel's TCP finds its speed inside tunnels: BBR where there is one (auto), or one of the two.",
    ),
    _global("--disable-network-telemetry", env="DISABLE_NETWORK_TELEMETRY", cls=FLAG, help="Accepted; none is sent."),
    _global("--force-tty", env="FORCE_TTY", cls=FLAG, help="Behave as on a terminal."),
    _global("--verbose", "-v", env="VERBOSE", cls=FLAG, help="Show details of errors and log to stderr."),
    _global("--use-keyring", env="USE_KEYRING", cls=FLAG, hidden=True, help="Accepted; tokens are stored in files."),
    _global("--no-open", env="NO_OPEN", cls=FLAG, hidden=True, help="Do not open a browser."),
    _global("--debug-options", cls=FLAG, hidden=True, help="Print each option and where its value comes from."),
)


class _GlobalOptions(click.Command):
    """Accept the global options at any command, and keep them out of its help."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Add the global options whose names the command does not use itself."""
        own = super().get_params(ctx)
        used = {name for param in own for name in param.opts}
        return own + [option for option in GLOBALS if used.isdisjoint(option.opts)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Understand `--flag=false`."""
        return super().parse_args(ctx, params.take_written_flags(ctx, args, self.get_params(ctx)))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the command's own options."""
        own = [param for param in super().get_params(ctx) if isinstance(param, click.Option)]
        shown = [param.get_help_record(ctx) for param in own]
        if records := [record for record in shown if record]:
            with formatter.section("Options"):
                formatter.write_dl(records)
        if ctx.parent is not None:
            formatter.write_paragraph()
            root = ctx.find_root().info_name
            formatter.write_text(f"Run `{root} --help` for a list of global options.")

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, or print where its options come from."""
        values = _values(ctx)
        if values.get("debug_options") and not isinstance(self, click.Group):
            for name in sorted({*ctx.params, *values}):
                source = ctx.get_parameter_source(name if name in ctx.params else PREFIX + name)
                value = ctx.params.get(name, values.get(name))
                shown = "<secret>" if name in {"token", "password"} and value else value
                click.echo(f"{name}: {shown!r} ({source.name.lower() if source else 'default'})")
            return None
        return super().invoke(ctx)


class Command(_GlobalOptions):
    """A command of the command line."""


class Group(_GlobalOptions, click.Group):
    """A group of commands; `ls` is short for its `list`, `rm` for its `delete` or `remove`."""

    command_class = Command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the options, then the commands."""
        _GlobalOptions.format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command by its name or its short name."""
        found = super().get_command(ctx, cmd_name)
        for name in SHORT_NAMES.get(cmd_name, ()):
            found = found or super().get_command(ctx, name)
        return found


class LazyGroup(Group):
    """A group whose commands are imported when they are used."""

    def __init__(self, *args: Any, table: Mapping[str, Lazy], **attributes: Any) -> None:  # Any: passed on to click
        super().__init__(*args, **attributes)
        self.table = table
        self._names = {alias: name for name, entry in table.items() for alias in (name, *entry.aliases)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands, hidden ones included."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        known = (self._names.get(name) for name in (cmd_name, *SHORT_NAMES.get(cmd_name, ())))
        name = next((name for name in known if name is not None), None)
        if name is None:
            return None
        module, _, attribute = self.table[name].target.partition(":")
        found = getattr(import_module(module), attribute)
        assert isinstance(found, click.Command), self.table[name].target
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section from the table, importing nothing."""
        sections = dict.fromkeys(entry.section for entry in self.table.values() if not entry.hidden)
        for section in sections:
            rows = [
                (name, entry.summary)
                for name, entry in sorted(self.table.items())
                if entry.section == section and not entry.hidden
            ]
            with formatter.section(section or "Commands"):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the global options under the root command."""
        if ctx.parent is None:
            records = [record for option in GLOBALS if (record := option.get_help_record(ctx))]
            with formatter.section("Global options"):
                formatter.write_dl(records)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, with a hint when there is none of that name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0], self._names)
            if not close:
                raise
            text = f"{error.message}\nhint: did you mean `{ctx.command_path} {close[0]}`?"
            raise click.UsageError(text, ctx=ctx) from error


Body = Callable[..., Coroutine[object, object, object] | object]


def command(
    name: str | None = None, *, parent: click.Group | None = None, hidden: bool = False, **attributes: Any
) -> Callable[[Body], click.Command]:  # Any: passed on to click
    """Declare a command: its body takes the `Context`, then the parsed values; its docstring is its help."""

    def declare(body: Body) -> click.Command:
        settings = {**HELP_NAMES, **attributes.pop("context_settings", {})}
        kind = attributes.pop("cls", Command)
        made = click.command(
            name or body.__name__.replace("_", "-"), cls=kind, hidden=hidden, context_settings=settings, **attributes
        )(_runner(body))
        made.help = _help(body)
        if parent is not None:
            parent.add_command(made)
        return made

    return declare


def group(name: str, summary: str, *, parent: click.Group | None = None) -> Group:
    """Declare a group of commands."""
    made = Group(name, help=summary, context_settings=HELP_NAMES)
    if parent is not None:
        parent.add_command(made)
    return made


def _help(body: Body) -> str:
    return inspect.cleandoc(body.__doc__ or "").replace("\n\nRaises:", "\n\n\fRaises:")


def _runner(body: Body) -> Callable[..., object]:
    """Make the function that click calls: it makes the context and runs the body, in an event loop when it is async."""

    def run(**values: object) -> object:
        from warren.cli.context import Context

        context = Context.current()
        if not inspect.iscoroutinefunction(body):
            return body(context, **values)
        import anyio

        return anyio.run(_run, partial(body, context, **values), context.aclose)

    run.__doc__ = body.__doc__
    # click stores the parameters that decorators declared on the function itself
    run.__click_params__ = getattr(body, "__click_params__", [])  # pyright: ignore[reportFunctionMemberAccess]
    return run


async def _run(
    body: Callable[[], Coroutine[object, object, object]], close: Callable[[], Coroutine[object, object, None]]
) -> object:
    try:
        return await body()
    finally:
        await close()


def aliased(found: click.Command, name: str, parent: click.Group, *, hidden: bool = True) -> None:
    """Give a command a second name in `parent`."""
    import copy

    twin = copy.copy(found)
    twin.name, twin.hidden = name, hidden
    parent.add_command(twin, name)
