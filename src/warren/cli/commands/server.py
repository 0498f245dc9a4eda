"""Run the control plane, and repair its database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from warren import settings as all_settings
from warren.cli.command import Command, Group
from warren.errors import Invalid

if TYPE_CHECKING:
    from warren.server.run import Started
    from warren.settings import Loaded


def _options() -> list[click.Parameter]:
    """Make an option of each setting; values stay text, for the settings to read from wherever they come."""
    made: list[click.Parameter] = [
        click.Option(["--config", "-c"], metavar="FILE", help="YAML file with settings."),
        click.Option(["--write-config"], is_flag=True, help="Print the settings in force as YAML, and exit."),
    ]
    for option in all_settings.options():
        names = [f"--{option.flag}", *([f"-{option.short}"] if option.short else []), option.name]
        truth = option.parse is all_settings.parse_bool
        several = option.parse is all_settings.parse_list
        made.append(
            click.Option(
                names,
                is_flag=False,
                flag_value="true" if truth else None,
                multiple=several,
                default=None,
                metavar="" if truth else "TEXT",
                hidden=option.hidden,
                help=f"{option.help} [{option.variables[0]}]",
            )
        )
    return made


def _load(values: dict[str, Any]) -> Loaded:
    """Read the settings: what click found, the environment, the file."""
    path = values.pop("config") or os.environ.get("WARREN_CONFIG_PATH") or os.environ.get("CODER_CONFIG_PATH")
    document: object = None
    if path:
        import yaml

        try:
            document = yaml.safe_load(Path(path).read_text())
        except (OSError, yaml.YAMLError) as error:
            raise Invalid(f"cannot read the settings in {path}: {error}") from error
    flags = {name: value for name, value in values.items() if value not in (None, ())}
    return all_settings.load(flags, os.environ, document)


# click calls it with one value for each option above; their types are click's.
def _serve(**values: Any) -> None:
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is not None:
        return
    write = values.pop("write_config")
    loaded = _load(values)
    if write:
        import yaml

        click.echo(yaml.safe_dump(all_settings.to_yaml_tree(loaded), sort_keys=False), nl=False)
        return
    _run(loaded, _config_folder(ctx))


def _config_folder(ctx: click.Context) -> Path:
    # The root's object holds the global options; click does not know its type.
    values: dict[str, object] = ctx.find_root().obj or {}
    chosen = values.get("global_config")
    return Path(str(chosen)).expanduser() if chosen else all_settings.config_folder(os.environ)


def _run(loaded: Loaded, folder: Path) -> None:
    import gc

    # Hundreds of thousands of objects are made while starting, and none of them is garbage; see `_announce`.
    gc.disable()
    import anyio
    import uvloop

    from warren import log
    from warren.server.run import serve_until_signal

    settings = loaded.settings
    log.configure(
        log.LogSettings(
            settings.log_human,
            settings.log_json,
            settings.verbose,
            tuple(settings.log_filter),
            settings.log_stackdriver,
        )
    )
    anyio.run(
        serve_until_signal,
        loaded,
        folder,
        _announce,
        backend="asyncio",
        backend_options={"loop_factory": uvloop.new_event_loop},
    )


def _announce(started: Started) -> None:
    import gc

    from warren.server.compose import VERSION

    gc.freeze()
    gc.enable()
    click.echo(f"Warren {VERSION} - Your self-hosted remote development platform.")
    for url in started.urls:
        click.echo(f"Started {'HTTPS' if url.startswith('https:') else 'HTTP'} listener at {url}")
    click.echo(f"Sign in with: warren login {started.access_url}")


server = Group(
    name="server",
    params=_options(),
    callback=_serve,
    invoke_without_command=True,
    help="Run the server: the API, the relay, and builds.",
)


# click's types, as above
def _builtin_url(**values: Any) -> None:
    from warren.server.postgres import Postgres

    url = Postgres(_config_folder(click.get_current_context()) / "postgres").url()
    click.echo(url if values["raw_url"] else f'psql "{url}"')


server.add_command(
    Command(
        name="postgres-builtin-url",
        params=[click.Option(["--raw-url"], is_flag=True, help="Print the connection string alone.")],
        callback=_builtin_url,
        help="Print how to reach the built-in PostgreSQL of a running server.",
    )
)


_POSTGRES = click.Option(
    ["--postgres-url"],
    envvar=["WARREN_PG_CONNECTION_URL", "CODER_PG_CONNECTION_URL"],
    default="",
    help="PostgreSQL to use; empty for the built-in one.",
)


def _create_admin(**values: Any) -> None:
    import anyio

    async def create(folder: Path) -> None:
        from warren.server import repair

        async with repair.open_connection(values["postgres_url"], folder) as db:
            user = await repair.create_admin(
                db,
                username=values["username"],
                email=values["email"],
                password=values["password"],
                algorithm=values["ssh_keygen_algorithm"],
            )
        click.echo(f"User {user.username} ({user.email}) was created and owns the deployment.")

    anyio.run(create, _config_folder(click.get_current_context()))


def _text(name: str, help_text: str, **attributes: Any) -> click.Option:
    """Make an option that is asked for when it is not given."""
    upper = name.upper()
    return click.Option([f"--{name}"], envvar=[f"WARREN_{upper}", f"CODER_{upper}"], help=help_text, **attributes)


server.add_command(
    Command(
        name="create-admin-user",
        params=[
            _POSTGRES,
            click.Option(["--ssh-keygen-algorithm"], default="ed25519", help="Kind of the user's key for git."),
            _text("username", "Name of the user.", prompt=True),
            _text("email", "Email of the user.", prompt=True),
            _text("password", "Password of the user.", prompt=True, hide_input=True, confirmation_prompt=True),
        ],
        callback=_create_admin,
        help="Create a user who owns the deployment, straight in the database.",
    )
)


def _reset_password(**values: Any) -> None:
    import anyio

    async def reset(folder: Path) -> None:
        from warren.server import repair

        async with repair.open_connection(values["postgres_url"], folder) as db:
            await repair.reset_password(db, values["username"], values["password"])
        click.echo(f"The password of {values['username']} was changed.")

    anyio.run(reset, _config_folder(click.get_current_context()))


reset_password = Command(
    name="reset-password",
    params=[
        click.Argument(["username"]),
        _POSTGRES,
        _text("password", "New password.", prompt=True, hide_input=True, confirmation_prompt=True),
    ],
    callback=_reset_password,
    help="Change a user's password, straight in the database.",
)
