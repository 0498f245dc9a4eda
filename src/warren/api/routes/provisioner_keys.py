"""External provisioner daemons: their keys, and the endpoint at which they serve."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from litestar import Request, WebSocket, delete, get, post, websocket

from warren.api import sockets
from warren.api.convert import jobs as convert
from warren.api.exchange import exchange_of
from warren.authz.policy import Actor
from warren.domain.api_version import PROVISIONER_API, check
from warren.errors import Invalid, Violation
from warren.sdk.types import jobs as wire
from warren.services.lookups import Lookups
from warren.services.provisioner_keys import Connecting, Credentials, ProvisionerKeys
from warren.services.provisionerd import ProvisionerDaemons

KEY_HEADER = "coder-provisioner-daemon-key"
PSK_HEADER = "coder-provisioner-daemon-psk"
VERSION_HEADER = "x-coder-build-version"
_KEYS = "/api/v2/organizations/{organization:str}/provisionerkeys"


@get(_KEYS)
async def list_keys(
    organization: str, actor: Actor, provisioner_keys: ProvisionerKeys, lookups: Lookups
) -> list[wire.ProvisionerKey]:
    """List the keys of an organization."""
    organization_id = await lookups.organization(actor, organization)
    return [convert.key(found) for found in await provisioner_keys.list(actor, organization_id)]


@post(_KEYS, status_code=201)
async def create_key(
    organization: str,
    data: wire.CreateProvisionerKey,
    actor: Actor,
    provisioner_keys: ProvisionerKeys,
    lookups: Lookups,
) -> dict[str, str]:
    """Make a key."""
    organization_id = await lookups.organization(actor, organization)
    return {"key": await provisioner_keys.create(actor, organization_id, data.name, data.tags or {})}


@get(_KEYS + "/daemons")
async def list_key_daemons(
    organization: str, actor: Actor, provisioner_keys: ProvisionerKeys, lookups: Lookups
) -> list[wire.ProvisionerKeyDaemons]:
    """List the keys of an organization with the daemons that use them."""
    organization_id = await lookups.organization(actor, organization)
    return [
        wire.ProvisionerKeyDaemons(key=convert.key(found.key), daemons=[convert.daemon(item) for item in found.daemons])
        for found in await provisioner_keys.list_daemons(actor, organization_id)
    ]


@delete(_KEYS + "/{name:str}", status_code=204)
async def delete_key(
    organization: str, name: str, actor: Actor, provisioner_keys: ProvisionerKeys, lookups: Lookups
) -> None:
    """Remove a key."""
    await provisioner_keys.delete(actor, await lookups.organization(actor, organization), name)


@get("/api/v2/provisionerkeys/{key:str}")
async def read_key(request: Request[Any, Any, Any], key: str, provisioner_keys: ProvisionerKeys) -> wire.ProvisionerKey:
    """Read the key that a daemon signs in with."""
    return convert.key(await provisioner_keys.find(request.headers.get(KEY_HEADER) or key))


@websocket("/api/v2/organizations/{organization:str}/provisionerdaemons/serve")
async def serve(
    socket: WebSocket[Any, Any, Any],
    organization: str,
    provisioner_keys: ProvisionerKeys,
    provisionerd: ProvisionerDaemons,
    lookups: Lookups,
) -> None:
    """Serve an external daemon."""
    session = exchange_of(socket.scope).session
    credentials = Credentials(
        session.actor if session else None,
        key=socket.headers.get(KEY_HEADER, ""),
        psk=socket.headers.get(PSK_HEADER, ""),
    )
    # Who the daemon is, is not known yet; whether it may see the organization, its credentials decide.
    found = await lookups.any_organization(organization)
    wanted = _connecting(socket)
    admitted = await provisioner_keys.admit(credentials, found.id, wanted, is_default=found.is_default)
    check(wanted.api_version, PROVISIONER_API)
    daemon = await provisionerd.register(admitted)
    await provisionerd.serve(await sockets.accept(socket), daemon)


def _connecting(socket: WebSocket[Any, Any, Any]) -> Connecting:
    query = socket.query_params
    return Connecting(
        name=query.get("name") or f"daemon-{secrets.token_hex(4)}",
        version=socket.headers.get(VERSION_HEADER, ""),
        api_version=query.get("version") or "1.0",
        provisioners=query.getall("provisioner", []),
        tags=_tags(query.getall("tag", [])),
    )


def _tags(texts: list[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            violation = Violation("tag", f"invalid tag {text!r}: expected key=value")
            raise Invalid("Invalid format for tags.", violations=[violation])
        found[key] = value
    return found


routes = [create_key, delete_key, list_key_daemons, list_keys, read_key, serve]
