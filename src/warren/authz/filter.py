"""Which rows an actor may read, as a condition of the query: the same rules as `policy`, for unknown objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg import sql

from warren.authz.policy import Actor, scope_matches
from warren.authz.resources import ANY, Action

TRUE = sql.SQL("TRUE")
FALSE = sql.SQL("FALSE")


@dataclass(frozen=True, slots=True)
class Columns:
    """The expressions that hold what authorization needs of a row; `None` where the type has no such thing."""

    id: sql.Composable
    org_id: sql.Composable | None = None
    owner_id: sql.Composable | None = None
    acl_users: sql.Composable | None = None
    acl_groups: sql.Composable | None = None


def readable(actor: Actor, kind: str, columns: Columns, action: Action = Action.READ) -> sql.Composable:
    """Build the condition that holds for exactly the rows that `actor` may read (or do `action` to)."""
    if not scope_matches(actor.scope, kind, action):
        return FALSE
    allowed = _any([_roles_allow(actor, kind, columns, action), _acl_allows(actor, columns, action)])
    return _all([_allow_list(actor, kind, columns), allowed])


def readable_workspaces(actor: Actor, columns: Columns, dormant: sql.Composable) -> sql.Composable:
    """Build the condition for workspaces; `dormant` says of a row whether it is dormant, which ends its ACL."""
    plain = Columns(columns.id, columns.org_id, columns.owner_id)
    return sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(
        dormant, readable(actor, "workspace_dormant", plain), readable(actor, "workspace", columns)
    )


def _roles_allow(actor: Actor, kind: str, columns: Columns, action: str) -> sql.Composable:
    site = actor.site_vote(kind, action)
    if site:
        return TRUE if site > 0 else FALSE
    own = FALSE if columns.owner_id is None else sql.SQL("{} = {}").format(columns.owner_id, _id(actor.user_id))
    if columns.org_id is None:
        return own if actor.user_vote(kind, action) > 0 else FALSE
    votes = {org: actor.org_vote(org, kind, action) for org in actor.organization_ids}
    whole = [org for org, vote in votes.items() if vote > 0]
    mine = [org for org, vote in votes.items() if vote == 0 and actor.member_vote(org, kind, action) > 0]
    in_mine = _all([own, _in(columns.org_id, mine)])
    outside = _all([own, sql.SQL("{} IS NULL").format(columns.org_id)]) if actor.user_vote(kind, action) > 0 else FALSE
    return _any([_in(columns.org_id, whole), in_mine, outside])


def _acl_allows(actor: Actor, columns: Columns, action: str) -> sql.Composable:
    if columns.org_id is None or not actor.organization_ids:
        return FALSE
    actions = sql.SQL("ARRAY[{}, {}]").format(sql.Literal(str(action)), sql.Literal(ANY))
    grants: list[sql.Composable] = []
    if columns.acl_users is not None:
        grants.append(
            sql.SQL("coalesce({} -> {} ?| {}, FALSE)").format(
                columns.acl_users, sql.Literal(str(actor.user_id)), actions
            )
        )
    if columns.acl_groups is not None:
        keys: list[sql.Composable] = [sql.SQL("{}::text").format(columns.org_id)]
        keys += [sql.Literal(str(group)) for group in sorted(actor.groups)]
        grants += [sql.SQL("coalesce({} -> {} ?| {}, FALSE)").format(columns.acl_groups, key, actions) for key in keys]
    return _all([_in(columns.org_id, actor.organization_ids), _any(grants)])


def _allow_list(actor: Actor, kind: str, columns: Columns) -> sql.Composable:
    entries = [entry for entry in actor.allow_list if entry.kind in (ANY, kind)]
    if any(entry.id == ANY for entry in entries):
        return TRUE
    ids = [sql.Literal(entry.id) for entry in entries]
    return sql.SQL("{}::text IN ({})").format(columns.id, sql.SQL(", ").join(ids)) if ids else FALSE


def _id(value: UUID) -> sql.Composable:
    return sql.SQL("{}::uuid").format(sql.Literal(str(value)))


def _in(column: sql.Composable, ids: Sequence[UUID]) -> sql.Composable:
    if not ids:
        return FALSE
    return sql.SQL("coalesce({} IN ({}), FALSE)").format(column, sql.SQL(", ").join(_id(value) for value in ids))


def _any(parts: Sequence[sql.Composable]) -> sql.Composable:
    if TRUE in parts:
        return TRUE
    useful = [part for part in parts if part != FALSE]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(useful)) if useful else FALSE


def _all(parts: Sequence[sql.Composable]) -> sql.Composable:
    if FALSE in parts:
        return FALSE
    useful = [part for part in parts if part != TRUE]
    return sql.SQL("({})").format(sql.SQL(" AND ").join(useful)) if useful else TRUE
