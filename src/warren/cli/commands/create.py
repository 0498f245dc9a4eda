"""`create`: a workspace from a template."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import click

from warren.cli import build, duration, parameters, params
from warren.cli.command import command
from warren.cli.context import Context, org_option
from warren.errors import Conflict, Gone, Invalid, NotFound

if TYPE_CHECKING:
    from warren.sdk.types.templates import Preset, Template, TemplateVersionParameter


@command()
@click.argument("name", required=False, default="")
@params.option("--template", "-t", env="TEMPLATE_NAME", default="", help="Template to create from.")
@params.option(
    "--template-version", env="TEMPLATE_VERSION", default="", help="Version to use instead of the active one."
)
@params.option("--preset", env="PRESET_NAME", default="", help="Preset to take values from; `none` for none.")
@params.option(
    "--start-at", env="WORKSPACE_START_AT", default="", help="When to start by itself, as in `schedule start`."
)
@params.durations("--stop-after", env="WORKSPACE_STOP_AFTER", help="Stop after running this long.")
@params.option(
    "--automatic-updates",
    env="WORKSPACE_AUTOMATIC_UPDATES",
    type=click.Choice(["always", "never"]),
    default="never",
    help="Whether starts take the newest version.",
)
@params.option(
    "--copy-parameters-from", env="WORKSPACE_COPY_PARAMETERS_FROM", default="", help="Workspace to copy from."
)
@params.flag("--no-wait", env="CREATE_NO_WAIT", help="Return when the build is queued.")
@parameters.options
@params.yes_option
@org_option
async def create(
    context: Context,
    *,
    name: str,
    template: str,
    template_version: str,
    preset: str,
    start_at: str,
    stop_after: timedelta | None,
    automatic_updates: str,
    copy_parameters_from: str,
    no_wait: bool,
    yes: bool,
    org: str,
    **flags: object,
) -> None:
    """Create a workspace, named as `name` or `owner/name`."""
    from warren.cli import schedule_text
    from warren.sdk.types.templates import BuildParameter
    from warren.sdk.types.workspaces import CreateWorkspace

    client, terminal = context.client, context.terminal
    wanted = parameters.Wanted.parse(flags)
    name = name or terminal.prompt("Specify a name for your workspace:", validate=_name_problem)
    owner, _, own_name = name.rpartition("/")
    owner = owner or "me"
    await _check_free(context, owner, own_name)
    chosen = await choose_template(context, template, org)
    version_id = chosen.active_version_id
    if template_version:
        version_id = (await client.templates.version_by_name(chosen.id, template_version)).id
    copied = await _copied(context, copy_parameters_from, chosen)
    questions = await client.templates.rich_parameters(version_id)
    picked = _choose_preset(await client.templates.presets(version_id), preset, copied=bool(copied))
    values = parameters.resolve(
        terminal,
        questions,
        wanted,
        preset=copied | ({item.Name: item.Value for item in picked.Parameters} if picked else {}),
    )
    await _check_external_auth(context, version_id)
    await _preview(context, questions, values, chosen, own_name, yes=yes)
    created = await client.workspaces.create(
        owner,
        CreateWorkspace(
            name=own_name,
            template_version_id=version_id,
            rich_parameter_values=[BuildParameter(name=key, value=value) for key, value in values.items()],
            autostart_schedule=schedule_text.cron(start_at.split()) if start_at else None,
            ttl_ms=duration.milliseconds(stop_after) if stop_after else None,
            automatic_updates=automatic_updates,
            **({"template_version_preset_id": picked.ID} if picked else {}),
        ),
    )
    if no_wait:
        terminal.say(f"The {terminal.keyword(own_name)} workspace is being created.")
        return
    await build.follow(context, created.latest_build)
    terminal.say(f"\nThe {terminal.keyword(created.name)} workspace has been created!")


def _name_problem(text: str) -> str | None:
    """Say what is wrong with a name before anything else is asked."""
    from warren.cli.errors import NAME
    from warren.domain.names import name_problem

    return None if name_problem(text.rpartition("/")[2]) is None else f"a name is {NAME}"


async def choose_template(context: Context, name: str, org: str) -> Template:
    """Find the template of that name, or let the user pick one.

    Raises:
        NotFound: there is none.
    """
    found = [template for template in await context.client.templates.list() if not template.deleted]
    if org:
        found = [item for item in found if org.lower() in {item.organization_name.lower(), str(item.organization_id)}]
    if not found:
        raise NotFound("there are no templates yet", hint=f"{context.program} templates init && templates push")
    if not name:
        if len(found) == 1:
            return found[0]
        name = context.terminal.choose("Select a template:", [template.name for template in found])
    matching = [template for template in found if template.name.lower() == name.lower()]
    if not matching:
        raise NotFound(f"no template `{name}`", hint=f"{context.program} templates list")
    if len(matching) > 1:
        names = ", ".join(template.organization_name for template in matching)
        raise Invalid(f"several organizations have a template `{name}`: {names}", hint="choose one with --org=<name>")
    return matching[0]


async def _check_free(context: Context, owner: str, name: str) -> None:
    try:
        await context.client.workspaces.by_name(owner, name)
    except (NotFound, Gone):
        return
    raise Conflict(f"A workspace already exists named `{name}`!", hint=f"{context.program} start {name}")


async def _copied(context: Context, source: str, template: Template) -> dict[str, str]:
    """Take the parameter values of another workspace of the same template."""
    if not source:
        return {}
    workspace = await context.workspace(source)
    if workspace.template_id != template.id:
        raise Invalid(f"workspace `{source}` is of another template, `{workspace.template_name}`")
    values = await context.client.builds.parameters(workspace.latest_build.id)
    return {value.name: value.value for value in values}


def _choose_preset(presets: Sequence[Preset], wanted: str, *, copied: bool) -> Preset | None:
    if wanted == "none" or (copied and not wanted):
        return None
    if not wanted:
        return next((preset for preset in presets if preset.Default), None)
    for preset in presets:
        if preset.Name.lower() == wanted.lower():
            return preset
    raise NotFound(
        f"no preset `{wanted}`", hint="there are " + (", ".join(preset.Name for preset in presets) or "none")
    )


async def _check_external_auth(context: Context, version_id: UUID) -> None:
    missing = [
        link
        for link in await context.client.templates.external_auth(version_id)
        if not link.authenticated and not link.optional
    ]
    if missing:
        raise Invalid(
            "you must sign in to " + ", ".join(link.display_name or link.id for link in missing),
            hint="open " + " and ".join(link.authenticate_url for link in missing),
        )


async def _preview(
    context: Context,
    questions: Sequence[TemplateVersionParameter],
    values: dict[str, str],
    template: Template,
    name: str,
    *,
    yes: bool,
) -> None:
    """Say what will be created and ask. Nothing is planned: the plan of the build itself says the same, once."""
    if yes:
        return
    shown = [f"  {question.name}: {values[question.name]}" for question in questions if question.name in values]
    context.terminal.say("\n".join([f"Workspace {name} from template {template.name}", *shown]))
    context.terminal.confirm("Confirm create?", yes=False)
