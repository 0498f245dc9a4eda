"""`dotfiles`: clone a repository and put its files in place."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path

import click

from warren.cli import params
from warren.cli.command import command
from warren.cli.context import Context
from warren.clock import SystemClock
from warren.errors import Invalid

SCRIPTS = (
    "install.sh",
    "install",
    "bootstrap.sh",
    "bootstrap",
    "setup.sh",
    "setup",
    "script/install.sh",
    "script/install",
    "script/bootstrap.sh",
    "script/bootstrap",
    "script/setup.sh",
    "script/setup",
)
"""What an author of dotfiles calls the script that installs them; the first found is run."""


@command()
@click.argument("repository", required=False, default="")
@params.option("--symlink-dir", env="SYMLINK_DIR", default="", help="Folder for links; the home folder unless given.")
@params.option("--branch", "-b", env="DOTFILES_BRANCH", default="", help="Branch to take.")
@params.option(
    "--repo-dir", env="DOTFILES_REPO_DIR", default="dotfiles", help="Folder for the clone, in the configuration."
)
@params.yes_option
def dotfiles(context: Context, *, repository: str, symlink_dir: str, branch: str, repo_dir: str, yes: bool) -> None:
    """Apply a dotfiles repository: run its install script, or link its dot files into the home folder."""
    repository = repository or context.folder.read("dotfilesurl")
    if not repository:
        raise Invalid("which repository?", hint=f"{context.program} dotfiles <git url>")
    clone = context.folder.path / repo_dir
    _fetch(context, repository, clone, yes=yes)
    context.folder.write("dotfilesurl", repository)
    if branch:
        _git("checkout", branch, folder=clone)
    script = next((clone / name for name in SCRIPTS if (clone / name).is_file()), None)
    if script is not None:
        context.terminal.confirm(f"Run the script {script}?", yes=yes)
        subprocess.run([str(script)] if script.stat().st_mode & 0o100 else ["sh", str(script)], cwd=clone, check=True)
        return
    into = Path(symlink_dir) if symlink_dir else Path.home()
    files = [
        path for path in sorted(clone.iterdir()) if path.name.startswith(".") and path.name not in {".git", ".github"}
    ]
    if not files:
        raise Invalid("the repository has neither an install script nor dot files")
    context.terminal.confirm(f"Link {len(files)} dot files into {into}?", yes=yes)
    for path in files:
        link(path, into / path.name, SystemClock().now())
    context.terminal.say("Dotfiles installation complete.")


def link(source: Path, target: Path, now: datetime) -> None:
    """Make `target` a link to `source`; what was there is kept beside it."""
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        target.rename(target.with_name(f"{target.name}.{now:%Y%m%d%H%M%S}.bak"))
    target.symlink_to(source)


def _fetch(context: Context, repository: str, clone: Path, *, yes: bool) -> None:
    if (clone / ".git").is_dir():
        known = _git("config", "--get", "remote.origin.url", folder=clone).strip()
        if known == repository:
            _git("pull", "--ff-only", folder=clone)
            return
        backup = clone.with_name(f"{clone.name}-{SystemClock().now():%Y%m%d%H%M%S}")
        context.terminal.confirm(f"{clone} is a clone of {known}; move it to {backup}?", yes=yes)
        clone.rename(backup)
    clone.parent.mkdir(parents=True, exist_ok=True)
    _git("clone", repository, str(clone), folder=clone.parent)


def _git(*words: str, folder: Path) -> str:
    ran = subprocess.run(["git", *words], cwd=folder, check=False, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        raise Invalid(f"git {words[0]} failed with status {ran.returncode}")
    return ran.stdout
