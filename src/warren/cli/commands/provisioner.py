"""Manage provisioners: their daemons, the keys these sign in with, and their jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

import click

from warren.cli import params, ui
from warren.cli.command import command, group
from warren.cli.commands import provisioner_start
from warren.cli.context import Context, org_option
from warren.errors import Invalid

if TYPE_CHECKING:
    from warren.sdk.types.jobs import ProvisionerDaemon, ProvisionerJob, ProvisionerKey

MOST_LISTED = 1000  # what is asked of the server when some of it is left out here

provisioner = group("provisioner", "Run provisioners of your own, and manage all.")
provisioner.add_command(provisioner_start.start)
jobs = group("jobs", "List and cancel provisioner jobs.", parent=provisioner)
keys = group("keys", "Manage the keys that external provisioners sign in with.", parent=provisioner)


def _tags(tags: Mapping[str, str]) -> str:
    shown = {key: value for key, value in sorted(tags.items()) if value}
    return " ".join(f"{key}={value}" for key, value in shown.items())


def _queue(job: ProvisionerJob) -> str:
    return f"{job.queue_position}/{job.queue_size}" if job.status == "pending" else ""


DAEMONS: ui.Table[ProvisionerDaemon] = ui.Table(
    columns={
        "id": lambda daemon: str(daemon.id),
        "organization id": lambda daemon: str(daemon.organization_id),
        "created at": lambda daemon: ui.when(daemon.created_at),
        "last seen at": lambda daemon: ui.when(daemon.last_seen_at),
        "key name": lambda daemon: daemon.key_name or "",
        "name": lambda daemon: daemon.name,
        "version": lambda daemon: daemon.version,
        "api version": lambda daemon: daemon.api_version,
        "status": lambda daemon: daemon.status or "",
        "current job id": lambda daemon: str(daemon.current_job.id) if daemon.current_job else "",
        "current job status": lambda daemon: daemon.current_job.status if daemon.current_job else "",
        "previous job id": lambda daemon: str(daemon.previous_job.id) if daemon.previous_job else "",
        "previous job status": lambda daemon: daemon.previous_job.status if daemon.previous_job else "",
        "tags": lambda daemon: _tags(daemon.tags),
    },
    default=("created at", "last seen at", "key name", "name", "version", "status", "tags"),
)
JOBS: ui.Table[ProvisionerJob] = ui.Table(
    columns={
        "id": lambda job: str(job.id),
        "created at": lambda job: ui.when(job.created_at),
        "started at": lambda job: ui.when(job.started_at),
        "completed at": lambda job: ui.when(job.completed_at),
        "canceled at": lambda job: ui.when(job.canceled_at),
        "error": lambda job: job.error,
        "error code": lambda job: job.error_code,
        "status": lambda job: job.status,
        "worker id": lambda job: str(job.worker_id or ""),
        "worker name": lambda job: job.worker_name,
        "type": lambda job: job.type,
        "template name": lambda job: job.metadata.template_name,
        "template display name": lambda job: job.metadata.template_display_name,
        "template version name": lambda job: job.metadata.template_version_name,
        "workspace name": lambda job: job.metadata.workspace_name,
        "queue": _queue,
        "tags": lambda job: _tags(job.tags),
    },
    default=("created at", "id", "type", "template display name", "status", "queue", "tags"),
)
KEYS: ui.Table[ProvisionerKey] = ui.Table(
    columns={
        "id": lambda key: str(key.id),
        "created at": lambda key: ui.when(key.created_at),
        "name": lambda key: key.name,
        "tags": lambda key: _tags(key.tags),
    },
    default=("created at", "name", "tags"),
)


@command("list", parent=provisioner)
@params.option("--limit", "-l", env="PROVISIONER_LIST_LIMIT", type=click.IntRange(1), default=50, help="How many.")
@params.flag("--show-offline", "-f", env="PROVISIONER_SHOW_OFFLINE", help="List those, too, that are gone.")
@params.strings("--status", "-s", env="PROVISIONER_LIST_STATUS", help="Only those that are offline, idle or busy.")
@org_option
@DAEMONS.options()
async def list_daemons(
    context: Context,
    *,
    limit: int,
    show_offline: bool,
    status: tuple[str, ...],
    org: str,
    output: str,
    column: tuple[str, ...],
) -> None:
    """List provisioner daemons."""
    unknown = sorted(set(status) - {"offline", "idle", "busy"})
    if unknown:
        raise Invalid(f"no status `{unknown[0]}`", hint="there are offline, idle, busy")
    organization = await context.organization(org)
    offline = show_offline or "offline" in status
    asked = MOST_LISTED if status else limit
    found = await context.client.provisioners.daemons(organization.id, limit=asked, offline=offline)
    wanted = [daemon for daemon in found if not status or daemon.status in status][:limit]
    ui.listing(context.terminal, wanted, DAEMONS, output=output, column=column, empty="No provisioner daemons found.")


@command("list", parent=jobs)
@params.strings("--status", "-s", env="PROVISIONER_JOB_LIST_STATUS", help="Only jobs of this status.")
@params.option("--limit", "-l", env="PROVISIONER_JOB_LIST_LIMIT", type=click.IntRange(1), default=50, help="How many.")
@params.option("--initiator", "-i", env="PROVISIONER_JOB_LIST_INITIATOR", default="", help="Only jobs of this user.")
@org_option
@JOBS.options()
async def list_jobs(
    context: Context,
    *,
    status: tuple[str, ...],
    limit: int,
    initiator: str,
    org: str,
    output: str,
    column: tuple[str, ...],
) -> None:
    """List provisioner jobs, newest first."""
    organization = await context.organization(org)
    user_id = (await context.client.users.get(initiator)).id if initiator else None
    found = await context.client.provisioners.jobs(organization.id, limit=limit, statuses=status, initiator=user_id)
    ui.listing(context.terminal, found, JOBS, output=output, column=column, empty="No provisioner jobs found.")


@command(parent=jobs)
@click.argument("job")
@org_option
async def cancel(context: Context, *, job: str, org: str) -> None:
    """Cancel a provisioner job, given by its id."""
    try:
        job_id = UUID(job)
    except ValueError as error:
        raise Invalid(f"`{job}` is not the id of a job", hint=f"{context.program} provisioner jobs list") from error
    organization = await context.organization(org)
    found = await context.client.provisioners.job(organization.id, job_id)
    await context.client.provisioners.cancel(found)
    context.terminal.say("Job canceled")


@command(parent=keys)
@click.argument("name")
@params.strings("--tag", "-t", metavar="KEY=VALUE", help="Tag of the provisioners that use the key.")
@org_option
async def create(context: Context, *, name: str, tag: tuple[str, ...], org: str) -> None:
    """Create a key and print it; it is shown only once."""
    organization = await context.organization(org)
    secret = await context.client.provisioners.create_key(organization.id, name, params.key_values(tag, "--tag"))
    terminal = context.terminal
    terminal.say(f"Successfully created provisioner key {terminal.keyword(name)}! It is not shown again:")
    terminal.out(secret)


@command("list", parent=keys)
@org_option
@KEYS.options()
async def list_keys(context: Context, *, org: str, output: str, column: tuple[str, ...]) -> None:
    """List keys."""
    organization = await context.organization(org)
    found = await context.client.provisioners.keys(organization.id)
    ui.listing(context.terminal, found, KEYS, output=output, column=column, empty="No provisioner keys found.")


@command(parent=keys)
@click.argument("name")
@params.yes_option
@org_option
async def delete(context: Context, *, name: str, yes: bool, org: str) -> None:
    """Delete a key; provisioners that run with it go on until they have to connect again."""
    organization = await context.organization(org)
    context.terminal.confirm(f"Are you sure you want to delete provisioner key {name}?", yes=yes, default=False)
    await context.client.provisioners.delete_key(organization.id, name)
    context.terminal.say(f"Successfully deleted provisioner key {context.terminal.keyword(name)}!")
