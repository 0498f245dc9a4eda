"""Manage API tokens."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from warren.cli import duration, params, ui
from warren.cli.command import command, group
from warren.cli.context import Context
from warren.errors import Invalid

if TYPE_CHECKING:
    from warren.sdk.types.users import APIKey, APIKeyWithOwner

tokens = group("tokens", "Manage API tokens, with which programs sign in.")


def _allowed(key: APIKey | APIKeyWithOwner) -> str:
    return ", ".join(key.allow_list)


def _used(at: datetime) -> str:
    """Write when a token was used last; one that never was has the beginning of time."""
    return "never" if at.year <= 1970 else ui.when(at)


LIST: ui.Table[APIKeyWithOwner] = ui.Table(
    columns={
        "id": lambda key: key.id,
        "name": lambda key: key.token_name,
        "scopes": lambda key: ", ".join(key.scopes),
        "allow list": _allowed,
        "last used": lambda key: _used(key.last_used),
        "expires at": lambda key: ui.when(key.expires_at),
        "created at": lambda key: ui.when(key.created_at),
        "owner": lambda key: key.username,
    },
    default=("id", "name", "scopes", "allow list", "last used", "expires at", "created at"),
)


@command(parent=tokens)
@params.durations("--lifetime", env="TOKEN_LIFETIME", help="How long it lives, such as 8h, 30d or 1y.")
@params.option("--name", "-n", env="TOKEN_NAME", default="", help="Name to find it by.")
@params.option("--user", "-u", env="TOKEN_USER", default="me", help="Whom it is for; others only by owners.")
@params.strings("--scope", help="What it may do; everything unless given.")
@params.strings("--allow", metavar="TYPE:ID", help="What it may touch; everything unless given.")
async def create(
    context: Context,
    *,
    lifetime: timedelta | None,
    name: str,
    user: str,
    scope: tuple[str, ...],
    allow: tuple[str, ...],
) -> None:
    """Create a token and print it; it is shown only once."""
    from warren.sdk.types.users import CreateToken

    longest = (await context.client.tokens.config(user=user)).max_token_lifetime
    wanted = duration.nanoseconds(lifetime) if lifetime else 0
    if longest and wanted > longest:
        most = duration.about(timedelta(microseconds=longest // 1000))
        raise Invalid(f"a token may live for {most} at most")
    request = CreateToken(
        lifetime=wanted,
        token_name=name,
        scopes=list(scope) or None,
        allow_list=[_entry(item) for item in allow] or None,
    )
    context.terminal.out(await context.client.tokens.create(request, user=user))


@command("list", parent=tokens)
@params.flag("--all", "-a", "everyones", help="List the tokens of everyone.")
@params.flag("--include-expired", help="List expired tokens, too.")
@LIST.options()
async def list_tokens(
    context: Context, *, everyones: bool, include_expired: bool, output: str, column: tuple[str, ...]
) -> None:
    """List tokens."""
    found = await context.client.tokens.list(everyones=everyones, expired=include_expired)
    if everyones and not column:
        column = (*LIST.default, "owner")
    ui.listing(context.terminal, found, LIST, output=output, column=column, empty="No tokens found.")


@command(parent=tokens)
@click.argument("token")
@ui.output_option()
async def view(context: Context, *, token: str, output: str) -> None:
    """Show a token, by name or id."""
    key = await context.client.tokens.find(token)
    if output == "json":
        context.terminal.out(ui.json_text(key))
        return
    rows = [["ID", "NAME", "SCOPES", "ALLOW LIST", "LAST USED", "EXPIRES AT", "CREATED AT"]]
    rows.append(
        [
            key.id,
            key.token_name,
            ", ".join(key.scopes),
            _allowed(key),
            _used(key.last_used),
            ui.when(key.expires_at),
            ui.when(key.created_at),
        ]
    )
    context.terminal.out(ui.columns_text(rows))


@command(parent=tokens)
@click.argument("token")
@params.flag("--delete", "for_good", help="Delete it, instead of letting it expire and keeping its record.")
async def remove(context: Context, *, token: str, for_good: bool) -> None:
    """End a token, given by name, by id or by itself."""
    key = await context.client.tokens.find(_without_secret(token))
    if for_good:
        await context.client.tokens.delete(key.id)
        context.terminal.say("Token has been deleted.")
    else:
        await context.client.tokens.expire(key.id)
        context.terminal.say("Token has been expired.")


def _without_secret(token: str) -> str:
    """Keep a token's secret out of URLs: its id is the part before the hyphen."""
    found, _, secret = token.partition("-")
    return found if len(found) == 10 and len(secret) == 22 else token


def _entry(item: str) -> str:
    """Check an entry of the allow list.

    Raises:
        Invalid: it is not a type and an id.
    """
    kind, colon, entry_id = item.partition(":")
    if not kind or not colon or not entry_id:
        raise Invalid(f"`{item}` is not of the form type:id", hint="such as workspace:*")
    return item
