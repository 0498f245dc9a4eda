"""Scopes: the upper bound of what a token may do, whatever its user's roles are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from warren.authz.resources import ANY, RESOURCES
from warren.authz.roles import Permission
from warren.errors import Invalid

ALL = "coder:all"
CONNECT = "coder:application_connect"
_ALIASES = {"all": ALL, "application_connect": CONNECT}


def _read(lines: str) -> tuple[Permission, ...]:
    found: list[Permission] = []
    for line in lines.split(","):
        kind, _, actions = line.strip().partition(":")
        found += [Permission(kind, action) for action in actions.split()]
    return tuple(found)


_COMPOSITE: Mapping[str, Sequence[Permission]] = {
    ALL: (Permission(ANY, ANY),),
    CONNECT: _read("workspace: application_connect"),
    "no_user_data": tuple(Permission(kind, ANY) for kind in RESOURCES if kind != "user"),
    "coder:workspaces.create": _read(
        "template: read use, workspace: create read update start stop, organization_member: read"
    ),
    "coder:workspaces.operate": _read("template: read, workspace: read update start stop, organization_member: read"),
    "coder:workspaces.delete": _read("template: read use, workspace: read delete, organization_member: read"),
    "coder:workspaces.access": _read(
        "template: read, workspace: read ssh application_connect, organization_member: read"
    ),
    "coder:templates.build": _read("template: read, file: create read, provisioner_jobs: read"),
    "coder:templates.author": _read("template: create read update delete view_insights, file: create read"),
    "coder:apikeys.manage_self": _read("api_key: create read update delete"),
}
_PUBLIC_ACTIONS: Mapping[str, str] = {
    "workspace": "read create update delete ssh start stop application_connect",
    "template": "read create update delete use",
    "api_key": "read create update delete",
    "file": "read create",
    "user": "read read_personal update_personal",
    "user_secret": "read create update delete",
    "user_skill": "read create update delete",
    "task": "read create update delete",
    "organization": "read update delete",
}
PUBLIC: Sequence[str] = tuple(
    sorted(
        [
            *(name for name in _COMPOSITE if name.startswith("coder:")),
            *(f"{kind}:{action}" for kind, actions in _PUBLIC_ACTIONS.items() for action in [*actions.split(), ANY]),
        ]
    )
)
"""The scopes that a token may be given, sorted."""


@dataclass(frozen=True, slots=True)
class AllowEntry:
    """One thing, or all of one type, or everything, that a token may touch."""

    kind: str
    id: str

    def __str__(self) -> str:
        """Write it as it is stored."""
        return f"{self.kind}:{self.id}"


EVERYTHING = AllowEntry(ANY, ANY)


def parse(name: str) -> str:
    """Read the name of a scope that is asked for.

    Raises:
        Invalid: no token can have it.
    """
    name = _ALIASES.get(name, name)
    if name not in PUBLIC:
        raise Invalid("Invalid API key scope.", detail=f'invalid or unsupported API key scope: "{name}"')
    return name


def permissions(names: Iterable[str]) -> Sequence[Permission]:
    """List what scopes allow together; a stored name that is not known any more allows nothing."""
    found: list[Permission] = []
    for name in names:
        known = _COMPOSITE.get(_ALIASES.get(name, name))
        if known is not None:
            found += known
        elif ":" in name and not name.startswith("coder:"):
            kind, _, action = name.partition(":")
            found.append(Permission(kind, action))
    return found


def parse_allow_entry(text: str) -> AllowEntry:
    """Read `type:id`, `type:*` or `*:*`.

    Raises:
        Invalid: it names no type that exists, or no id.
    """
    kind, _, thing = text.partition(":")
    if kind != ANY and kind not in RESOURCES:
        raise Invalid("Invalid allow list.", detail=f'unknown resource type "{kind}"')
    if thing != ANY:
        try:
            thing = str(UUID(thing))
        except ValueError as error:
            raise Invalid("Invalid allow list.", detail=f'"{thing}" is not a UUID') from error
    return AllowEntry(kind, thing)


def normalise(entries: Iterable[AllowEntry]) -> Sequence[AllowEntry]:
    """Leave out what another entry covers; an empty list allows everything."""
    found = set(entries)
    if not found or EVERYTHING in found:
        return (EVERYTHING,)
    whole = {entry.kind for entry in found if entry.id == ANY}
    anywhere = {entry.id for entry in found if entry.kind == ANY}
    kept = [
        entry
        for entry in found
        if entry.id == ANY or (entry.kind not in whole and (entry.kind == ANY or entry.id not in anywhere))
    ]
    return tuple(sorted(kept, key=str))
