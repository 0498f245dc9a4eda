"""The condition of queries allows exactly the rows that the rules allow, on a real PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Sequence
from uuid import UUID

import pytest
from psycopg import AsyncConnection, sql
from psycopg.types.json import Jsonb

from warren.authz.filter import Columns, readable
from warren.authz.policy import Action, Actor, Membership, Object, actor_of
from warren.authz.roles import RoleOptions, org_roles, site_roles
from warren.authz.scopes import ALL, EVERYTHING, AllowEntry

pytestmark = pytest.mark.anyio

USERS = [UUID(int=n) for n in (1, 2, 3)]
ORGS = [UUID(int=n) for n in (10, 11)]
GROUPS = [UUID(int=n) for n in (20, 21)]
KINDS = ("workspace", "workspace_dormant", "template", "user", "api_key", "group", "organization_member", "file")
ACTORS_TRIED = 150
COLUMNS = Columns(*(sql.Identifier("t", name) for name in ("id", "org_id", "owner_id", "acl_users", "acl_groups")))


def _acl(dice: random.Random, ids: Sequence[UUID]) -> dict[str, list[str]]:
    actions: Sequence[list[str]] = (["read"], ["use"], ["*"], ["read", "ssh"], [])
    return {str(each): dice.choice(actions) for each in ids if dice.random() < 0.3}


def _objects(dice: random.Random, count: int) -> list[Object]:
    return [
        Object(
            "any",
            id=UUID(int=1000 + number),
            org_id=dice.choice([None, *ORGS]),
            owner_id=dice.choice([None, *USERS]),
            acl_users=_acl(dice, USERS),
            acl_groups=_acl(dice, [*GROUPS, *ORGS]),
        )
        for number in range(count)
    ]


def _actor(dice: random.Random) -> Actor:
    sharing = ("everyone", "none", "service_accounts")
    some_org_roles = [name for name in org_roles() if dice.random() < 0.2]
    return actor_of(
        user_id=dice.choice(USERS),
        username="x",
        roles=[name for name in site_roles(RoleOptions()) if dice.random() < 0.1],
        memberships=[Membership(org, some_org_roles, dice.choice(sharing)) for org in ORGS if dice.random() < 0.6],
        groups=[group for group in GROUPS if dice.random() < 0.5],
        scopes=dice.choice([(ALL,), (ALL,), ("workspace:read",), ("template:*", "user:read"), ()]),
        allow_list=dice.choice(
            [(EVERYTHING,), (EVERYTHING,), (AllowEntry("workspace", "*"),), (AllowEntry("*", str(UUID(int=1005))),)]
        ),
        options=RoleOptions(),
        service_account=dice.random() < 0.2,
    )


async def test_queries_and_checks_agree(database_url: str) -> None:
    dice = random.Random(20261121)
    objects = _objects(dice, 60)
    async with await AsyncConnection.connect(database_url) as db:
        await db.execute(
            "CREATE TEMPORARY TABLE t (id uuid, org_id uuid, owner_id uuid, acl_users jsonb, acl_groups jsonb)"
        )
        for each in objects:
            values = (each.id, each.org_id, each.owner_id, Jsonb(each.acl_users), Jsonb(each.acl_groups))
            await db.execute("INSERT INTO t VALUES (%s, %s, %s, %s, %s)", values)
        seen = 0
        for _ in range(ACTORS_TRIED):
            actor, kind, action = (
                _actor(dice),
                dice.choice(KINDS),
                dice.choice([Action.READ, Action.READ, Action.UPDATE]),
            )
            condition = readable(actor, kind, COLUMNS, action)
            cursor = await db.execute(sql.SQL("SELECT id FROM t WHERE {}").format(condition))
            found = {row[0] for row in await cursor.fetchall()}
            expected = {
                each.id
                for each in objects
                if actor.may(action, Object(kind, each.id, each.org_id, each.owner_id, each.acl_users, each.acl_groups))
            }
            assert found == expected, (kind, action, actor)
            seen += 0 < len(expected) < len(objects)
        assert seen > ACTORS_TRIED / 5  # else the actors tried see all or nothing, and prove little
