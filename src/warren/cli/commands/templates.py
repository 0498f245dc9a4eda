"""Templates: look at them, edit them, delete them."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from warren.cli import duration, params, ui
from warren.cli.command import HELP_NAMES, Lazy, LazyGroup, command
from warren.cli.context import Context, org_option
from warren.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from uuid import UUID

    from warren.sdk.types.templates import Template, TemplateVersion

HERE = "warren.cli.commands"

templates = LazyGroup(
    "templates",
    help="Manage templates: what workspaces are made from.",
    context_settings=HELP_NAMES,
    table={
        "init": Lazy(f"{HERE}.templates_init:init", "Write a starter template into a folder."),
        "push": Lazy(f"{HERE}.templates_push:push", "Create a template, or a new version of one, from a folder."),
        "create": Lazy(f"{HERE}.templates_push:create", "Create a template (use push).", hidden=True),
        "list": Lazy(f"{HERE}.templates:list_templates", "List templates."),
        "pull": Lazy(f"{HERE}.templates:pull", "Download a template version."),
        "edit": Lazy(f"{HERE}.templates_edit:edit", "Change a template's settings."),
        "delete": Lazy(f"{HERE}.templates:delete", "Delete templates."),
        "archive": Lazy(f"{HERE}.templates:archive", "Archive versions that no workspace uses."),
        "versions": Lazy(f"{HERE}.templates_versions:versions", "Manage template versions.", aliases=("version",)),
        "presets": Lazy(f"{HERE}.templates_versions:presets", "Look at presets.", aliases=("preset",)),
    },
)

LIST: ui.Table[Template] = ui.Table(
    columns={
        "name": lambda item: item.name,
        "created at": lambda item: ui.when(item.created_at),
        "last updated": lambda item: ui.when(item.updated_at),
        "organization id": lambda item: str(item.organization_id),
        "organization name": lambda item: item.organization_name,
        "provisioner": lambda item: item.provisioner,
        "active version id": lambda item: str(item.active_version_id),
        "used by": lambda item: _used_by(item.active_user_count),
        "default ttl": lambda item: duration.text(timedelta(milliseconds=item.default_ttl_ms)),
    },
    default=("name", "organization name", "last updated", "used by"),
)


def _used_by(count: int) -> str:
    return f"{max(count, 0)} developer" + ("" if count == 1 else "s")


@command("list")
@LIST.options()
async def list_templates(context: Context, *, output: str, column: tuple[str, ...]) -> None:
    """List templates."""
    found = await context.client.templates.list()
    empty = f"No templates found! Create one:\n\n  {context.program} templates push <folder>\n"
    if output == "json":
        context.terminal.out(ui.json_text([{"Template": template} for template in found]))
        return
    ui.listing(context.terminal, found, LIST, output=output, column=column, empty=empty)


@command()
@click.argument("name")
@click.argument("destination", required=False, type=click.Path(path_type=Path))
@params.flag("--tar", "as_tar", help="Write the archive to stdout as tar.")
@params.flag("--zip", "as_zip", help="Write the archive to stdout as zip.")
@params.option("--version", "wanted", default="", help="Version: active (default), latest, or a name.")
@params.yes_option
@org_option
async def pull(
    context: Context,
    *,
    name: str,
    destination: Path | None,
    as_tar: bool,
    as_zip: bool,
    wanted: str,
    yes: bool,
    org: str,
) -> None:
    """Download a version of a template into a folder, or to stdout."""
    template = await find(context, name, org)
    version = await _pick_version(context, template, wanted)
    archive = await context.client.templates.download(version.job.file_id, as_zip=as_zip)
    if as_tar or as_zip:
        sys.stdout.buffer.write(archive)
        return
    from warren.cli.archive import unpack

    folder = destination or Path(template.name)
    if folder.exists() and any(folder.iterdir()):
        context.terminal.confirm(f"The folder {folder} is not empty; overwrite what is in it?", yes=yes, default=False)
    folder.mkdir(parents=True, exist_ok=True)
    context.terminal.say(f"Extracting template to {folder}")
    unpack(archive, folder)


@command()
@click.argument("names", nargs=-1)
@params.yes_option
@org_option
async def delete(context: Context, *, names: tuple[str, ...], yes: bool, org: str) -> None:
    """Delete templates that no workspace uses."""
    chosen = [await find(context, name, org) for name in names] or [await _choose(context, org)]
    shown = ", ".join(context.terminal.keyword(template.name) for template in chosen)
    context.terminal.confirm(f"Delete these templates: {shown}?", yes=yes, default=False)
    for template in chosen:
        await context.client.templates.delete(template.id)
        context.terminal.say(f"Deleted template {context.terminal.keyword(template.name)}.")


@command()
@click.argument("names", nargs=-1)
@params.flag("--all", "every", help="Archive all unused versions, not only failed ones.")
@params.yes_option
@org_option
async def archive(context: Context, *, names: tuple[str, ...], every: bool, yes: bool, org: str) -> None:
    """Archive template versions that are neither active nor used."""
    chosen = [await find(context, name, org) for name in names] or [await _choose(context, org)]
    shown = ", ".join(template.name for template in chosen)
    context.terminal.confirm(f"Archive {'all' if every else 'failed'} unused versions of {shown}?", yes=yes)
    for template in chosen:
        done = await context.client.templates.archive_versions(template.id, every=every)
        context.terminal.say(
            f"Archived {len(done.archived_ids)} versions of {context.terminal.keyword(template.name)}."
        )


async def find(context: Context, name: str, org: str) -> Template:
    """Find a template by its name.

    Raises:
        NotFound: there is none.
    """
    organization = await context.organization(org)
    try:
        return await context.client.templates.by_name(organization.id, name)
    except NotFound as error:
        hint = f"{context.program} templates list"
        raise NotFound(f"no template `{name}` in organization `{organization.name}`", hint=hint) from error


async def find_version(context: Context, template_id: UUID, name: str) -> TemplateVersion:
    """Find a version of a template by its name.

    Raises:
        NotFound: there is none.
    """
    try:
        return await context.client.templates.version_by_name(template_id, name)
    except NotFound as error:
        hint = f"{context.program} templates versions list <template>"
        raise NotFound(f"no version `{name}` of the template", hint=hint) from error


async def _pick_version(context: Context, template: Template, wanted: str) -> TemplateVersion:
    if wanted in {"", "active"}:
        return await context.client.templates.version(template.active_version_id)
    if wanted != "latest":
        return await find_version(context, template.id, wanted)
    versions = await context.client.templates.versions(template.id)
    done = [version for version in versions if version.job.completed_at is not None]
    if not done:
        raise Conflict(f"template `{template.name}` has no finished version")
    return max(done, key=lambda version: version.created_at)


async def _choose(context: Context, org: str) -> Template:
    organization = await context.organization(org)
    found = [item for item in await context.client.templates.list() if item.organization_id == organization.id]
    if not found:
        raise Invalid("there are no templates")
    name = context.terminal.choose("Select a template:", [template.name for template in found])
    return next(template for template in found if template.name == name)
