"""`config-ssh`: teach OpenSSH, scp, sftp, rsync and git to reach workspaces."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import click
from click.core import ParameterSource

from warren.cli import params, ssh_config, ui
from warren.cli.command import command
from warren.cli.context import Context
from warren.errors import Invalid


@command("config-ssh")
@params.option("--ssh-config-file", env="SSH_CONFIG_FILE", default="~/.ssh/config", help="File to write to.")
@params.option("--coder-binary-path", env="SSH_CONFIG_BINARY_PATH", default="", help="Program that OpenSSH starts.")
@params.option("--ssh-option", "-o", env="SSH_CONFIG_OPTS", multiple=True, metavar="KEY=VALUE", help="OpenSSH option.")
@params.flag("--dry-run", "-n", env="SSH_DRY_RUN", help="Show what would change, and change nothing.")
@params.flag("--skip-proxy-command", env="SSH_SKIP_PROXY_COMMAND", hidden=True, help="Leave the ProxyCommand out.")
@params.flag("--use-previous-options", env="SSH_USE_PREVIOUS_OPTIONS", help="Keep the options of the last run.")
@params.option("--ssh-host-prefix", env="CONFIGSSH_SSH_HOST_PREFIX", default=None, help="Prefix of host names.")
@params.option("--hostname-suffix", env="CONFIGSSH_HOSTNAME_SUFFIX", default=None, help="Suffix of host names.")
@params.option(
    "--wait",
    env="CONFIGSSH_WAIT",
    type=click.Choice(["yes", "no", "auto"]),
    default="auto",
    help="Wait for start scripts.",
)
@params.flag("--disable-autostart", env="CONFIGSSH_DISABLE_AUTOSTART", help="Do not start stopped workspaces.")
@params.flag("--no-wildcard", env="CONFIGSSH_NO_WILDCARD", help="Name the workspaces one by one.")
@params.flag("--force-unix-filepaths", env="CONFIGSSH_UNIX_FILEPATHS", help="Write paths with forward slashes.")
@params.yes_option
async def config_ssh(
    context: Context,
    *,
    ssh_config_file: str,
    coder_binary_path: str,
    ssh_option: tuple[str, ...],
    dry_run: bool,
    skip_proxy_command: bool,
    use_previous_options: bool,
    ssh_host_prefix: str | None,
    hostname_suffix: str | None,
    wait: str,
    disable_autostart: bool,
    no_wildcard: bool,
    force_unix_filepaths: bool,
    yes: bool,
) -> None:
    """Teach OpenSSH to reach your workspaces, as `ssh coder.<workspace>` or `ssh <workspace>.coder`."""
    path, before = _read(ssh_config_file)
    options = ssh_config.Options(
        wait=wait,
        prefix=ssh_host_prefix,
        suffix=hostname_suffix,
        disable_autostart=disable_autostart,
        no_wildcard=no_wildcard,
        ssh_options=ssh_option,
        headers=context.options.header,
        header_command=context.options.header_command,
    )
    previous = ssh_config.Options.read(ssh_config.find(before)[1])
    options = _choose(context, options, previous, reuse=use_previous_options, yes=yes or dry_run)
    deployment = await _deployment(context, coder_binary_path, unix_paths=force_unix_filepaths)
    names = [item.name for item in await context.client.workspaces.list("owner:me")] if options.no_wildcard else []
    section = ssh_config.section(options, deployment, workspaces=names, proxy_command=not skip_proxy_command)
    after = ssh_config.replace(before, section)
    if dry_run:
        context.terminal.say("Dry run, the following changes would be made to your SSH configuration:")
        changed = difflib.unified_diff(before.splitlines(), after.splitlines(), str(path), f"{path}.new", lineterm="")
        context.terminal.out("\n".join(changed))
        return
    if after == before:
        context.terminal.say("No changes to make.")
        return
    context.terminal.confirm(f"Write to {path}?", yes=yes)
    _write(path, after)
    context.terminal.say(f"Updated {str(path)!r}")
    prefix = deployment.prefix if options.prefix is None else options.prefix
    suffix = deployment.suffix if options.suffix is None else options.suffix
    example = f"{prefix}<workspace>" if prefix else f"<workspace>.{suffix}"
    context.terminal.say(
        f"You should now be able to ssh into your workspace. For example, try running:\n\n\t$ ssh {example}\n"
    )


def _choose(
    context: Context, options: ssh_config.Options, previous: ssh_config.Options, *, reuse: bool, yes: bool
) -> ssh_config.Options:
    """Take the options of the last run where the user wants them."""
    if reuse:
        return previous
    if previous in {options, ssh_config.Options()} or _written() or yes:
        return options
    context.terminal.say("The last run used other options:\n  " + "\n  ".join(line[3:] for line in previous.lines()))
    try:
        context.terminal.confirm("Use new options?", yes=False)
    except ui.Canceled:
        return previous
    return options


def _written() -> bool:
    """Say whether any of the options that are recorded was written now."""
    ctx = click.get_current_context()
    names = ("wait", "ssh_host_prefix", "hostname_suffix", "disable_autostart", "no_wildcard", "ssh_option")
    return any(ctx.get_parameter_source(name) is not ParameterSource.DEFAULT for name in names)


async def _deployment(context: Context, binary: str, *, unix_paths: bool) -> ssh_config.Deployment:
    said = await context.client.agents.ssh_config()
    found = binary or _own_binary(context.program)
    folder = str(context.options.folder)
    if unix_paths:
        found, folder = found.replace("\\", "/"), folder.replace("\\", "/")
    return ssh_config.Deployment(
        binary=found,
        config_dir=folder,
        tls_files=_tls_files(context),
        prefix=said.hostname_prefix,
        suffix=said.hostname_suffix,
        ssh_options=said.ssh_config_options,
    )


def _tls_files(context: Context) -> dict[str, str]:
    """Name the certificates of this run by absolute paths: OpenSSH starts us anywhere."""
    options = context.options
    files = {
        "--client-tls-ca-file": options.ca_file,
        "--client-tls-cert-file": options.cert_file,
        "--client-tls-key-file": options.key_file,
    }
    return {flag: str(Path(path).expanduser().absolute()) for flag, path in files.items() if path}


def _own_binary(program: str) -> str:
    """Find the program that OpenSSH has to start: ourselves, by an absolute path.

    Raises:
        Invalid: we were not started from a file.
    """
    started = Path(sys.argv[0])
    if started.is_file() and os.access(started, os.X_OK) and started.suffix != ".py":
        return str(started.absolute())
    beside = Path(sys.executable).with_name(program)
    if beside.is_file():
        return str(beside)
    if found := shutil.which(program):
        return str(Path(found).absolute())
    raise Invalid(f"cannot find the `{program}` program", hint="pass --coder-binary-path")


def _read(name: str) -> tuple[Path, str]:
    path = Path(name).expanduser()
    return path, path.read_text() if path.exists() else ""


def _write(path: Path, text: str) -> None:
    """Replace a file at once, keeping its permissions; a link is followed."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = path.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".config")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(temporary).chmod(mode)
    Path(temporary).replace(target)
