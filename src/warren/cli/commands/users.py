"""Manage users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from warren.cli import params, ui
from warren.cli.command import command, group
from warren.cli.commands.account import random_password
from warren.cli.context import Context, org_option
from warren.errors import Invalid

if TYPE_CHECKING:
    from warren.sdk.types.users import User

users = group("users", "Manage users.")

LIST: ui.Table[User] = ui.Table(
    columns={
        "id": lambda user: str(user.id),
        "username": lambda user: user.username,
        "name": lambda user: user.name,
        "email": lambda user: user.email,
        "created at": lambda user: ui.when(user.created_at),
        "updated at": lambda user: ui.when(user.updated_at),
        "status": lambda user: user.status,
    },
    default=("username", "email", "created at", "status"),
)


@command(parent=users)
@params.option("--email", "-e", default="", help="Email address.")
@params.option("--username", "-u", default="", help="Name to sign in and be found by.")
@params.option("--full-name", "-n", default="", help="Name that people see.")
@params.option("--password", "-p", default="", help="Password; made up unless given.")
@params.option("--login-type", default="password", help="How the user signs in: password, oidc, github or none.")
@params.flag("--service-account", help="Make an account for a program, which cannot sign in.")
@org_option
async def create(
    context: Context,
    *,
    email: str,
    username: str,
    full_name: str,
    password: str,
    login_type: str,
    service_account: bool,
    org: str,
) -> None:
    """Create a user."""
    from warren.sdk.types.users import CreateUser

    terminal = context.terminal
    organization = await context.organization(org)
    username = username or terminal.prompt("Username:", validate=_needed)
    email = email or ("" if service_account else terminal.prompt("Email:", validate=_needed))
    made_up = login_type == "password" and not password and not service_account
    password = random_password() if made_up else password
    request = CreateUser(
        username=username,
        email=email,
        name=full_name,
        password=password if login_type == "password" and not service_account else "",
        login_type="none" if service_account else login_type,
        organization_ids=[organization.id],
        service_account=service_account,
    )
    await context.client.users.create(request)
    terminal.say("A new user has been created!\nShare the instructions below to get them started.\n")
    terminal.out(f"Server:   {context.url}\nEmail:    {email}\nUsername: {username}")
    if made_up:
        terminal.out(f"Password: {password}")
    terminal.say(f"\nThey sign in with:\n\n  {context.program} login {context.url}\n")


@command("list", parent=users)
@params.option("--github-user-id", default="", help="List the user with this id at GitHub.")
@LIST.options()
async def list_users(context: Context, *, github_user_id: str, output: str, column: tuple[str, ...]) -> None:
    """List users."""
    query = f"github_com_user_id:{github_user_id}" if github_user_id else ""
    ui.listing(context.terminal, await context.client.users.list(query), LIST, output=output, column=column)


@command(parent=users)
@click.argument("user")
@ui.output_option()
async def show(context: Context, *, user: str, output: str) -> None:
    """Show a user, by name, id or `me`."""
    found = await context.client.users.get(user)
    if output == "json":
        context.terminal.out(ui.json_text(found))
        return
    names = {str(item.id): item.name for item in await context.client.organizations.mine()}
    rows = [(name, read(found)) for name, read in LIST.columns.items() if name != "id"]
    rows.append(("roles", ", ".join(role.display_name or role.name for role in found.roles) or "(none)"))
    rows.append(("organizations", ", ".join(names.get(str(item), str(item)) for item in found.organization_ids)))
    context.terminal.out(ui.columns_text([(name.capitalize() + ":", value) for name, value in rows]))


@command(parent=users)
@click.argument("user")
async def delete(context: Context, *, user: str) -> None:
    """Delete a user, by name or id."""
    found = await context.client.users.get(user)
    await context.client.users.delete(found.id)
    context.terminal.say(f"Successfully deleted {context.terminal.keyword(found.username)}.")


@command(parent=users)
@click.argument("user")
@params.yes_option
async def suspend(context: Context, *, user: str, yes: bool) -> None:
    """Keep a user from signing in."""
    await _set_status(context, user, "suspend", yes=yes)


@command(parent=users)
@click.argument("user")
@params.yes_option
async def activate(context: Context, *, user: str, yes: bool) -> None:
    """Let a suspended user sign in again."""
    await _set_status(context, user, "activate", yes=yes)


@command("edit-roles", parent=users)
@click.argument("user")
@params.strings("--roles", help="The site-wide roles the user has from now on; empty takes all away.")
@params.yes_option
async def edit_roles(context: Context, *, user: str, roles: tuple[str, ...], yes: bool) -> None:
    """Change the site-wide roles of a user."""
    found = await context.client.users.get(user)
    known = {role.name: role for role in await context.client.users.assignable_roles()}
    before = (await context.client.users.roles(user)).roles
    wanted = list(roles)
    if not _roles_given():
        there = ", ".join(name for name in known if name != "member")
        answer = context.terminal.prompt(f"Roles, separated by commas, of {there}:", default=",".join(before))
        wanted = [name.strip() for name in answer.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise Invalid(f"no role `{name}`", hint="there are " + ", ".join(known))
    shown = ", ".join(wanted) or "none"
    context.terminal.confirm(f"Are you sure you want to set the roles of {found.username} to {shown}?", yes=yes)
    await context.client.users.set_roles(user, wanted)
    context.terminal.say("User roles updated.")


def _roles_given() -> bool:
    """Say whether --roles was written, also as an empty list."""
    source = click.get_current_context().get_parameter_source("roles")
    return source is click.core.ParameterSource.COMMANDLINE


def _needed(text: str) -> str | None:
    return None if text else "required"


async def _set_status(context: Context, user: str, action: str, *, yes: bool) -> None:
    found = await context.client.users.get(user)
    done = {"suspend": "suspended", "activate": "active"}[action]
    if found.status == done:
        raise Invalid(f"user `{found.username}` is {done} already")
    context.terminal.confirm(f"Are you sure you want to {action} {found.username}?", yes=yes)
    await context.client.users.set_status(found.id, action)
    context.terminal.say(f"User {context.terminal.keyword(found.username)} has been {action.removesuffix('e')}ed!")
