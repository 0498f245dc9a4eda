"""Template versions and presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from warren.cli import params, ui
from warren.cli.command import command, group
from warren.cli.commands.templates import find, find_version
from warren.cli.context import Context, org_option

if TYPE_CHECKING:
    from warren.sdk.types.templates import Preset, TemplateVersion

versions = group("versions", "Manage template versions.")
presets = group("presets", "Look at the presets of a template.")


@dataclass(frozen=True, slots=True)
class Row:
    """A version, and whether it is the active one."""

    version: TemplateVersion
    active: bool


LIST: ui.Table[Row] = ui.Table(
    columns={
        "id": lambda row: str(row.version.id),
        "name": lambda row: row.version.name,
        "created at": lambda row: ui.when(row.version.created_at),
        "created by": lambda row: row.version.created_by.username,
        "status": lambda row: row.version.job.status.capitalize(),
        "active": lambda row: "Active" if row.active else "",
        "archived": lambda row: "Archived" if row.version.archived else "",
    },
    default=("name", "created at", "created by", "status", "active"),
)

PRESETS: ui.Table[Preset] = ui.Table(
    columns={
        "name": lambda preset: preset.Name,
        "parameters": lambda preset: ", ".join(f"{item.Name}={item.Value}" for item in preset.Parameters),
        "default": lambda preset: ui.yes_no(preset.Default),
        "desired prebuild instances": lambda preset: str(preset.DesiredPrebuildInstances or "-"),
    },
    default=("name", "parameters", "default", "desired prebuild instances"),
)


@command("list", parent=versions)
@click.argument("template")
@params.flag("--include-archived", help="List archived versions, too.")
@LIST.options()
@org_option
async def list_versions(
    context: Context, *, template: str, include_archived: bool, output: str, column: tuple[str, ...], org: str
) -> None:
    """List the versions of a template, the newest last."""
    found = await find(context, template, org)
    known = await context.client.templates.versions(found.id, archived=include_archived)
    if output == "json":
        rows = [{"TemplateVersion": version, "active": version.id == found.active_version_id} for version in known]
        context.terminal.out(ui.json_text(rows))
        return
    rows = [Row(version, version.id == found.active_version_id) for version in known]
    ui.listing(context.terminal, rows, LIST, output=output, column=column)


@command(parent=versions)
@params.option("--template", "-t", required=True, help="Template, by name.")
@params.option("--template-version", required=True, help="Version, by name.")
@org_option
async def promote(context: Context, *, template: str, template_version: str, org: str) -> None:
    """Make a version the active one."""
    found = await find(context, template, org)
    version = await find_version(context, found.id, template_version)
    await context.client.templates.promote(found.id, version.id)
    context.terminal.say(f"Promoted version {context.terminal.keyword(version.name)} to be the active one.")


@command(parent=versions)
@click.argument("template")
@click.argument("names", nargs=-1, required=True)
@params.yes_option
@org_option
async def archive(context: Context, *, template: str, names: tuple[str, ...], yes: bool, org: str) -> None:
    """Archive versions of a template."""
    await _set_archived(context, template, names, org, archived=True, yes=yes)


@command(parent=versions)
@click.argument("template")
@click.argument("names", nargs=-1, required=True)
@params.yes_option
@org_option
async def unarchive(context: Context, *, template: str, names: tuple[str, ...], yes: bool, org: str) -> None:
    """Bring archived versions of a template back."""
    await _set_archived(context, template, names, org, archived=False, yes=yes)


@command("list", parent=presets)
@click.argument("template")
@params.option("--template-version", default="", help="Version to look at instead of the active one.")
@PRESETS.options()
@org_option
async def list_presets(
    context: Context, *, template: str, template_version: str, output: str, column: tuple[str, ...], org: str
) -> None:
    """List the presets of a template."""
    found = await find(context, template, org)
    version_id = found.active_version_id
    if template_version:
        version_id = (await find_version(context, found.id, template_version)).id
    known = await context.client.templates.presets(version_id)
    empty = f"No presets found for template {found.name!r}."
    ui.listing(context.terminal, known, PRESETS, output=output, column=column, empty=empty)


async def _set_archived(
    context: Context, template: str, names: tuple[str, ...], org: str, *, archived: bool, yes: bool
) -> None:
    found = await find(context, template, org)
    chosen = [await find_version(context, found.id, name) for name in names]
    verb = "Archive" if archived else "Unarchive"
    context.terminal.confirm(f"{verb} {len(chosen)} versions of {found.name}?", yes=yes)
    for version in chosen:
        await context.client.templates.set_archived(version.id, archived=archived)
        context.terminal.say(f"{verb}d version {context.terminal.keyword(version.name)}.")
