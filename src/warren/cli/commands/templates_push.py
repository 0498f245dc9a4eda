"""`templates push`: upload a folder, import it, promote it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from warren.cli import archive, job_log, params, ui
from warren.cli.command import command
from warren.cli.context import Context, org_option
from warren.errors import Invalid, NotFound

if TYPE_CHECKING:
    from warren.sdk.types.organizations import Organization
    from warren.sdk.types.templates import Template, TemplateVersion
    from warren.sdk.types.workspaces import WorkspaceResource

MISSING_VARIABLES = "REQUIRED_TEMPLATE_VARIABLES"


@dataclass(frozen=True, slots=True)
class Source:
    """What is pushed."""

    archive: bytes
    folder: Path | None
    variables: Mapping[str, str]
    tags: Mapping[str, str]
    name: str = ""
    message: str = ""


@command()
@click.argument("name", required=False, default="")
@params.option("--directory", "-d", default=".", help="Folder to push; `-` reads a tar from stdin.")
@params.option("--variables-file", default="", metavar="FILE", help="YAML file with values of Terraform variables.")
@params.option("--variable", "--var", multiple=True, metavar="NAME=VALUE", help="Value of a Terraform variable.")
@params.option("--provisioner-tag", multiple=True, metavar="KEY=VALUE", help="Which provisioners may import it.")
@params.option("--name", "version_name", default="", help="Name of the version; made up unless given.")
@params.option("--message", "-m", default="", help="What this version changes.")
@click.option(
    "--activate/--no-activate",
    cls=params.FlagOption,
    default=True,
    help="Make the version the active one; the default.",
)
@params.flag("--always-prompt", help="Ask for all variables, also those with a value from before.")
@params.flag("--ignore-lockfile", help="Do not warn when there is no lock file of provider versions.")
@params.yes_option
@org_option
async def push(
    context: Context,
    *,
    name: str,
    directory: str,
    variables_file: str,
    variable: tuple[str, ...],
    provisioner_tag: tuple[str, ...],
    version_name: str,
    message: str,
    activate: bool,
    always_prompt: bool,
    ignore_lockfile: bool,
    yes: bool,
    org: str,
) -> None:
    """Create a template, or a new version of one, from a folder."""
    folder = None if directory == "-" else Path(directory)
    name = name or _default_name(folder)
    organization = await context.organization(org)
    source = Source(
        archive=sys.stdin.buffer.read() if folder is None else archive.pack(folder),
        folder=folder,
        variables=_variables(variables_file, variable),
        tags=params.key_values([tag for tag in provisioner_tag if tag != "-"], "--provisioner-tag"),
        name=version_name,
        message=message,
    )
    template = await _existing(context, organization, name)
    if folder is not None:
        _warn_of_lock_file(context, folder, ignore=ignore_lockfile)
        context.terminal.confirm(f"Upload {str(folder)!r}?", yes=yes)
    version = await import_version(context, organization, source, template, always_prompt=always_prompt)
    if template is None:
        await _create_template(context, organization, name, version.id)
    elif activate:
        await context.client.templates.promote(template.id, version.id)
    when = ui.when(version.created_at)
    context.terminal.say(f"Updated version at {when}!" if template else f"\nThe {name} template has been created!")


@command(hidden=True)
@click.argument("name", required=False, default="")
@params.option("--directory", "-d", default=".", help="Folder to push; `-` reads a tar from stdin.")
@params.yes_option
@org_option
def create(context: Context, **flags: object) -> None:
    """Create a template from a folder; superseded by `templates push`."""
    raise Invalid("`templates create` is superseded", hint=f"{context.program} templates push {flags.get('name', '')}")


async def import_version(
    context: Context,
    organization: Organization,
    source: Source,
    template: Template | None,
    *,
    always_prompt: bool,
) -> TemplateVersion:
    """Upload a template and import it, asking for variables that have no value.

    Raises:
        JobFailed: the import failed.
    """
    client = context.client
    file_id = await client.templates.upload(source.archive)
    while True:
        version = await _queue(context, organization, source, template, file_id)
        try:
            await job_log.follow(context.terminal, job_log.of_version(client, version), verbose=context.options.verbose)
        except job_log.JobFailed as error:
            failed = await client.templates.version(version.id)
            if failed.job.error_code != MISSING_VARIABLES:
                raise
            asked = await _ask_variables(context, source, failed.id)
            if asked == source:
                raise Invalid(error.message, hint="pass --variable name=value") from error
            source = asked
            continue
        version = await client.templates.version(version.id)
        if always_prompt:
            always_prompt = False
            asked = await _ask_variables(context, source, version.id, every=True)
            if asked.variables != source.variables:
                source = asked
                continue
        show_resources(context, await client.templates.version_resources(version.id))
        return version


async def _queue(
    context: Context, organization: Organization, source: Source, template: Template | None, file_id: UUID
) -> TemplateVersion:
    from warren.sdk.types.base import NIL_UUID
    from warren.sdk.types.templates import CreateTemplateVersion, VariableValue

    request = CreateTemplateVersion(
        name=source.name,
        message=source.message,
        template_id=template.id if template else NIL_UUID,
        file_id=file_id,
        tags=dict(source.tags),
        user_variable_values=[VariableValue(name=name, value=value) for name, value in source.variables.items()],
    )
    return await context.client.templates.create_version(organization.id, request)


async def _ask_variables(context: Context, source: Source, version_id: UUID, *, every: bool = False) -> Source:
    """Ask for the variables without a value, or for `every` one.

    Raises:
        Invalid: a value is missing and nobody can be asked.
    """
    terminal = context.terminal
    values = dict(source.variables)
    missing = [
        variable
        for variable in await context.client.templates.version_variables(version_id)
        if every or (variable.required and variable.name not in values)
    ]
    if missing and not terminal.input_tty:
        names = ", ".join(variable.name for variable in missing)
        raise Invalid(f"the template needs values for: {names}", hint="pass --variable name=value")
    for variable in missing:
        terminal.say(terminal.style(f"var.{variable.name}", ui.BOLD) + f" {variable.description}".rstrip())
        default = values.get(variable.name, variable.default_value)
        values[variable.name] = terminal.prompt("Enter value:", default=default, secret=variable.sensitive)
    return replace(source, variables=values)


def show_resources(context: Context, resources: Sequence[WorkspaceResource]) -> None:
    """Say what a template makes."""
    shown = [item for item in resources if item.workspace_transition == "start" and not item.hide]
    rows = [["RESOURCE", "AGENTS"]]
    rows += [
        [
            f"{item.type}.{item.name}",
            ", ".join(f"{a.name} ({a.operating_system}, {a.architecture})" for a in item.agents),
        ]
        for item in shown
    ]
    if shown:
        context.terminal.say(ui.columns_text(rows))


def _default_name(folder: Path | None) -> str:
    if folder is None:
        raise Invalid("a template from stdin needs a name", hint="warren templates push <name> -d -")
    return folder.resolve().name


async def _existing(context: Context, organization: Organization, name: str) -> Template | None:
    try:
        return await context.client.templates.by_name(organization.id, name)
    except NotFound:
        return None


async def _create_template(context: Context, organization: Organization, name: str, version_id: UUID) -> None:
    from warren.sdk.types.templates import CreateTemplate

    request = CreateTemplate(name=name, template_version_id=version_id, allow_user_cancel_workspace_jobs=True)
    await context.client.templates.create(organization.id, request)


def _warn_of_lock_file(context: Context, folder: Path, *, ignore: bool) -> None:
    if not ignore and not archive.has_lock_file(folder):
        context.terminal.warn(
            f"no {archive.LOCK_FILE} in {folder}: the providers' newest versions are taken at import. "
            "Run `terraform init` and push the file to pin them, or pass --ignore-lockfile."
        )


def _variables(file: str, written: Sequence[str]) -> dict[str, str]:
    from warren.cli.parameters import read_file

    values = read_file(Path(file)) if file else {}
    return values | params.key_values(written, "--variable")
