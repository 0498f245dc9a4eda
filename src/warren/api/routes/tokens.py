"""Keys of users: `/users/{user}/keys`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from litestar import Request, delete, get, post, put

from warren.api.convert import users as convert
from warren.api.exchange import exchange_of
from warren.api.params import Query
from warren.authz import scopes
from warren.authz.policy import Actor
from warren.sdk.types import users as wire
from warren.services.tokens import NewToken, Tokens

_KEYS = "/api/v2/users/{user:str}/keys"
_NANOSECONDS = 10**9


@post(_KEYS, status_code=201)
async def create_session(request: Request[Any, Any, Any], user: str, actor: Actor, tokens: Tokens) -> wire.CreatedKey:
    """Make a key for a program that signs in for a user."""
    return wire.CreatedKey(key=await tokens.create_session(actor, user, exchange_of(request.scope).ip_address))


@post(_KEYS + "/tokens", status_code=201)
async def create(
    request: Request[Any, Any, Any], user: str, data: wire.CreateToken, actor: Actor, tokens: Tokens
) -> wire.CreatedKey:
    """Make a token."""
    wanted = NewToken(
        name=data.token_name,
        lifetime=timedelta(microseconds=data.lifetime // 1000),
        scopes=data.scopes or ([data.scope] if data.scope else []),
        allow_list=data.allow_list or [],
    )
    ip_address = exchange_of(request.scope).ip_address
    return wire.CreatedKey(key=await tokens.create(actor, user, wanted, ip_address))


@get(_KEYS + "/tokens")
async def list_tokens(
    request: Request[Any, Any, Any], user: str, actor: Actor, tokens: Tokens
) -> list[wire.APIKeyWithOwner]:
    """List tokens."""
    query = Query(request.query_params)
    everybody, expired = query.flag("include_all"), query.flag("include_expired")
    query.finish()
    found = await tokens.list(actor, user, everybody=everybody, expired=expired)
    return [convert.key_with_owner(key, username) for key, username in found]


@get(_KEYS + "/tokens/tokenconfig")
async def config(user: str, actor: Actor, tokens: Tokens) -> wire.TokenConfig:
    """Tell how long a token may live."""
    longest = await tokens.longest_of(actor, user)
    return wire.TokenConfig(max_token_lifetime=int(longest.total_seconds()) * _NANOSECONDS)


@get(_KEYS + "/tokens/{name:str}")
async def read_by_name(user: str, name: str, actor: Actor, tokens: Tokens) -> wire.APIKey:
    """Read a token by its name."""
    return convert.key(await tokens.get_by_name(actor, user, name))


@get(_KEYS + "/{key:str}")
async def read(user: str, key: str, actor: Actor, tokens: Tokens) -> wire.APIKey:
    """Read a key."""
    return convert.key(await tokens.get(actor, user, key))


@put(_KEYS + "/{key:str}/expire", status_code=204)
async def expire(user: str, key: str, actor: Actor, tokens: Tokens) -> None:
    """End a key."""
    await tokens.expire(actor, user, key)


@delete(_KEYS + "/{key:str}", status_code=204)
async def remove(user: str, key: str, actor: Actor, tokens: Tokens) -> None:
    """End and forget a key."""
    await tokens.delete(actor, user, key)


@get("/api/v2/auth/scopes")
async def list_scopes() -> dict[str, list[str]]:
    """List what a token may be limited to."""
    return {"external": list(scopes.PUBLIC)}


routes = [create_session, create, list_tokens, config, read_by_name, read, expire, remove, list_scopes]
