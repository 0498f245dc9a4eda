"""Signing in and out, and what belongs to the user who is."""

from __future__ import annotations

import os
import secrets
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from warren.cli import params, ui
from warren.cli.command import command
from warren.cli.context import Context
from warren.errors import Invalid, Unauthenticated, WarrenError

if TYPE_CHECKING:
    from warren.sdk.client import Client
    from warren.sdk.types.users import User

TOKEN_VARIABLES = ("WARREN_SESSION_TOKEN", "CODER_SESSION_TOKEN")
ALPHABET = string.ascii_letters + string.digits


def random_password() -> str:
    """Make up a password of 20 characters."""
    return "".join(secrets.choice(ALPHABET) for _ in range(20))


@dataclass(frozen=True, slots=True)
class FirstUser:
    """What the flags say about the user to create."""

    email: str
    username: str
    name: str
    password: str
    trial: bool


@command()
@click.argument("url", required=False, default="")
@params.option("--first-user-email", env="FIRST_USER_EMAIL", default="", help="Email of the first user.")
@params.option("--first-user-username", env="FIRST_USER_USERNAME", default="", help="Name of the first user.")
@params.option("--first-user-full-name", env="FIRST_USER_FULL_NAME", default="", help="Full name of the first user.")
@params.option("--first-user-password", env="FIRST_USER_PASSWORD", default="", help="Password of the first user.")
@params.flag("--first-user-trial", env="FIRST_USER_TRIAL", hidden=True, help="Accepted; there is no trial.")
@params.flag("--use-token-as-session", help="Store the given token itself instead of making a session with it.")
async def login(
    context: Context,
    *,
    url: str,
    first_user_email: str,
    first_user_username: str,
    first_user_full_name: str,
    first_user_password: str,
    first_user_trial: bool,
    use_token_as_session: bool,
) -> None:
    """Sign in to a server, or create its first user. `login token` prints the stored token."""
    if url == "token":
        return _print_token(context)
    first = FirstUser(
        first_user_email, first_user_username, first_user_full_name, first_user_password, first_user_trial
    )
    written = _token_flag(context)
    if not written and not use_token_as_session and any(os.environ.get(name) for name in TOKEN_VARIABLES):
        raise Invalid(
            "a session token is set in the environment; it would win over the one that login stores",
            hint=f"unset {TOKEN_VARIABLES[0]} and {TOKEN_VARIABLES[1]}, or pass --use-token-as-session",
        )
    address = _complete(url or context.url or context.terminal.prompt("URL of the server:"))
    anonymous = context.client_for(address)
    if not await anonymous.users.first_exists():
        token = await _create_first_user(context, anonymous, first)
    elif context.options.token:
        token = await _session_of(context, address, as_is=use_token_as_session)
    else:
        token = await _ask_for_token(context, address, anonymous)
    user = await context.client_for(address, token=token).users.get()
    context.folder.write("url", address)
    context.folder.write("session", token)
    name = context.terminal.keyword(user.username)
    context.terminal.say(f"Welcome to Warren, {name}! You're authenticated.")
    return None


@command()
@params.yes_option
async def logout(context: Context, *, yes: bool) -> None:
    """Sign out: end the session and forget it."""
    client = context.client
    context.terminal.confirm("Are you sure you want to log out?", yes=yes)
    problem: WarrenError | None = None
    try:
        await client.users.logout()
    except Unauthenticated:
        pass  # the session is over already, which is what was asked for
    except WarrenError as error:
        problem = error
    for name in ("url", "session", "organization"):
        context.folder.remove(name)
    if problem is not None:
        raise problem
    context.terminal.say("You are no longer logged in. You can log in using 'warren login <url>'.")


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and the server that knows them."""

    url: str
    user: User


WHOAMI: ui.Table[Identity] = ui.Table(
    columns={
        "url": lambda row: row.url,
        "username": lambda row: row.user.username,
        "id": lambda row: str(row.user.id),
        "orgs": lambda row: ", ".join(map(str, row.user.organization_ids)),
        "roles": lambda row: ", ".join(role.name for role in row.user.roles),
    },
    default=("url", "username", "id", "orgs", "roles"),
)


@command()
@WHOAMI.options(formats=("text", "table", "json"), default="text")
async def whoami(context: Context, *, output: str, column: tuple[str, ...]) -> None:
    """Say who is signed in, and where."""
    identity = Identity(context.url, await context.client.users.get())
    match output:
        case "json":
            user = identity.user
            context.terminal.out(
                ui.json_text(
                    [
                        {
                            "url": identity.url,
                            "username": user.username,
                            "id": user.id,
                            "organizations": user.organization_ids,
                            "roles": user.roles,
                        }
                    ]
                )
            )
        case "table":
            context.terminal.out(WHOAMI.text([identity], column))
        case _:
            context.terminal.out(
                f"Warren is running at {identity.url}, You're authenticated as {identity.user.username} !"
            )


@command()
@params.flag("--reset", help="Make a new key; the old one stops working.")
@params.yes_option
async def publickey(context: Context, *, reset: bool, yes: bool) -> None:
    """Print your public key for git."""
    if reset:
        context.terminal.confirm("Replace your key? You will have to add the new one at your git provider.", yes=yes)
        key = await context.client.users.regenerate_git_ssh_key()
    else:
        key = await context.client.users.git_ssh_key()
    context.terminal.say("This is your public key for using git in your workspaces. Add it to your git provider:")
    context.terminal.out(key.public_key.strip())


def _print_token(context: Context) -> None:
    token = context.folder.read("session")
    if not token:
        raise Unauthenticated(f"You are not logged in. Try logging in using '{context.program} login <url>'.")
    context.terminal.out(token)


def _token_flag(context: Context) -> bool:
    """Say whether the token was written as a flag rather than found in the environment."""
    return bool(context.options.token) and context.options.token not in {os.environ.get(n) for n in TOKEN_VARIABLES}


def _complete(url: str) -> str:
    """Add the scheme that people leave out."""
    if "://" in url:
        return url.rstrip("/")
    local = url.split(":")[0] in {"localhost", "127.0.0.1", "[::1]"}
    return f"{'http' if local else 'https'}://{url}".rstrip("/")


async def _create_first_user(context: Context, anonymous: Client, first: FirstUser) -> str:
    from warren.sdk.types.users import CreateFirstUser

    terminal = context.terminal
    terminal.say("Your Warren server hasn't been set up yet.")
    username = first.username or terminal.prompt("What username would you like?", default=_login_name())
    email = first.email or terminal.prompt("What's your email?", validate=_check_email)
    password = first.password or _new_password(terminal)
    name = first.name or username
    await anonymous.users.create_first(CreateFirstUser(email=email, username=username, password=password, name=name))
    return await anonymous.users.login(email, password)


def _new_password(terminal: ui.Terminal) -> str:
    from warren.domain.password import problem

    while True:
        password = terminal.prompt("Enter a password:", secret=True, validate=lambda text: problem(text) or None)
        if terminal.prompt("Confirm password:", secret=True) == password:
            return password
        if not terminal.input_tty:
            raise Invalid("the passwords differ")
        terminal.say("The passwords differ, try again.")


async def _session_of(context: Context, address: str, *, as_is: bool) -> str:
    token = context.options.token
    if as_is:
        return token
    return await context.client_for(address, token=token).users.create_key()


async def _ask_for_token(context: Context, address: str, anonymous: Client) -> str:
    """Sign in through the browser; on a deployment without a dashboard, with the password here."""
    terminal = context.terminal
    page = f"{address}/cli-auth"
    if await _has_page(anonymous):
        if terminal.input_tty and not context.options.no_open:
            import webbrowser

            webbrowser.open(page)
        terminal.say(f"Open the following in your browser:\n\n\t{page}\n")
    elif terminal.input_tty and (await anonymous.users.auth_methods()).password.enabled:
        terminal.say("Sign in with your email and password, or press Enter to paste a token.")
        if email := terminal.prompt("What's your email?", validate=lambda text: _check_email(text) if text else None):
            return await anonymous.users.login(email, terminal.prompt("Enter your password:", secret=True))
    token = terminal.prompt("Paste your token here:", secret=True)
    try:
        await context.client_for(address, token=token).users.get()
    except WarrenError as error:
        raise Invalid("That's not a valid token!", detail=error.message) from error
    return token


async def _has_page(anonymous: Client) -> bool:
    """Say whether the deployment has a page that shows a token to who is signed in there."""
    from warren.sdk.client_transport import Transport

    transport = Transport(anonymous.url, dict(anonymous.headers), anonymous.tls_options)
    try:
        return (await transport.request("GET", "/cli-auth")).status != 404
    finally:
        await transport.aclose()


def _check_email(text: str) -> str | None:
    return None if "@" in text else "that's not a valid email address"


def _login_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "admin"
