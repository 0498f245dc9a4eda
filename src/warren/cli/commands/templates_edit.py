"""`templates edit`: change a template's settings."""

from __future__ import annotations

from datetime import timedelta

import click

from warren.cli import duration, params
from warren.cli.command import command
from warren.cli.commands.templates import find
from warren.cli.context import Context, org_option
from warren.errors import Invalid

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@command()
@click.argument("template")
@params.option("--name", help="New name.")
@params.option("--display-name", help="Name that people see.")
@params.option("--description", help="What the template is for.")
@params.option("--deprecated", help="Why not to use it any more; empty takes it back.")
@params.option("--icon", help="Path of the icon.")
@params.durations("--default-ttl", help="How long workspaces run unless told otherwise.")
@params.durations("--activity-bump", help="How much longer a workspace in use runs.")
@params.durations("--autostop-reminder", help="How long before a stop the user is told.")
@params.strings("--autostart-requirement-weekdays", help="Days on which workspaces may start by themselves, or all.")
@params.strings("--autostop-requirement-weekdays", help="Days on which workspaces must stop, or none.")
@params.option("--autostop-requirement-weeks", type=int, help="Every how many weeks they must.")
@params.durations("--failure-ttl", help="How long failed workspaces stay.")
@params.durations("--dormancy-threshold", help="How long unused workspaces stay active.")
@params.durations("--dormancy-auto-deletion", help="How long dormant workspaces stay.")
@click.option("--allow-user-cancel-workspace-jobs", type=bool, default=None, help="Whether users may cancel builds.")
@click.option("--allow-user-autostart", type=bool, default=None, help="Whether users may set a start schedule.")
@click.option("--allow-user-autostop", type=bool, default=None, help="Whether users may set how long they run.")
@click.option("--require-active-version", type=bool, default=None, help="Whether starts must take the active version.")
@click.option("--private", type=bool, default=None, help="Take the template away from everyone but admins.")
@params.yes_option
@org_option
async def edit(
    context: Context,
    *,
    template: str,
    name: str | None,
    display_name: str | None,
    description: str | None,
    deprecated: str | None,
    icon: str | None,
    default_ttl: timedelta | None,
    activity_bump: timedelta | None,
    autostop_reminder: timedelta | None,
    autostart_requirement_weekdays: tuple[str, ...],
    autostop_requirement_weekdays: tuple[str, ...],
    autostop_requirement_weeks: int | None,
    failure_ttl: timedelta | None,
    dormancy_threshold: timedelta | None,
    dormancy_auto_deletion: timedelta | None,
    allow_user_cancel_workspace_jobs: bool | None,
    allow_user_autostart: bool | None,
    allow_user_autostop: bool | None,
    require_active_version: bool | None,
    private: bool | None,
    yes: bool,
    org: str,
) -> None:
    """Change a template's settings; what is not given stays as it is."""
    from warren.sdk.types.templates import AutostartRequirement, AutostopRequirement, UpdateTemplate

    found = await find(context, template, org)
    autostart = _weekdays(autostart_requirement_weekdays)
    autostop = _weekdays(autostop_requirement_weekdays)
    stop_rule = None
    if autostop is not None or autostop_requirement_weeks is not None:
        stop_rule = AutostopRequirement(
            days_of_week=found.autostop_requirement.days_of_week if autostop is None else autostop,
            weeks=autostop_requirement_weeks or found.autostop_requirement.weeks,
        )
    request = UpdateTemplate(
        name=name,
        display_name=display_name,
        description=description,
        deprecation_message=deprecated,
        icon=icon,
        default_ttl_ms=_milliseconds(default_ttl),
        activity_bump_ms=_milliseconds(activity_bump),
        time_til_autostop_notify_ms=_milliseconds(autostop_reminder),
        autostart_requirement=None if autostart is None else AutostartRequirement(days_of_week=autostart),
        autostop_requirement=stop_rule,
        failure_ttl_ms=_milliseconds(failure_ttl),
        time_til_dormant_ms=_milliseconds(dormancy_threshold),
        time_til_dormant_autodelete_ms=_milliseconds(dormancy_auto_deletion),
        allow_user_cancel_workspace_jobs=allow_user_cancel_workspace_jobs,
        allow_user_autostart=allow_user_autostart,
        allow_user_autostop=allow_user_autostop,
        require_active_version=require_active_version,
        disable_everyone_group_access=private,
    )
    context.terminal.confirm(f"Confirm save changes to template {found.name}?", yes=yes)
    await context.client.templates.update(found.id, request)
    context.terminal.say(f"Updated template metadata of {context.terminal.keyword(found.name)}!")


def _milliseconds(given: timedelta | None) -> int | None:
    return None if given is None else duration.milliseconds(given)


def _weekdays(given: tuple[str, ...]) -> list[str] | None:
    """Read a list of days; `None` when none was given.

    Raises:
        Invalid: it is not a day.
    """
    days = [day.lower() for day in given]
    match days:
        case []:
            return None
        case ["all"]:
            return list(DAYS)
        case ["none"]:
            return []
        case _:
            for day in days:
                if day not in DAYS:
                    raise Invalid(f"`{day}` is not a day", hint="write monday,tuesday, or all, or none")
            return days
