from __future__ import annotations

import pytest

from tests.server import EMAIL, PASSWORD, Site
from warren.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from warren.sdk.client import Client
from warren.sdk.types.users import CreateFirstUser, CreateToken, CreateUser, UpdatePassword

pytestmark = pytest.mark.anyio


async def test_the_first_user_owns_the_deployment_and_is_made_once(server: Site) -> None:
    me = await server.admin.users.get()
    assert (me.username, me.status, [role.name for role in me.roles]) == ("admin", "active", ["owner"])
    anonymous = await server.anonymous()
    assert await anonymous.users.first_exists()
    with pytest.raises(Conflict, match="already been created"):
        await anonymous.users.create_first(CreateFirstUser(email="x@example.com", username="x", password=PASSWORD))


async def test_a_wrong_password_and_an_unknown_user_look_the_same(server: Site) -> None:
    anonymous = await server.anonymous()
    for email in (EMAIL, "nobody@example.com"):
        with pytest.raises(Unauthenticated, match="Incorrect email or password"):
            await anonymous.users.login(email, "wrong")


async def test_a_session_ends_with_logout(server: Site) -> None:
    session = await server.signed_in(EMAIL)
    assert (await session.users.get()).username == "admin"
    await session.users.logout()
    with pytest.raises(Unauthenticated):
        await session.users.get()
    assert (await server.admin.users.get()).username == "admin"  # another session of the same user


async def test_a_member_sees_itself_and_may_not_manage_others(server: Site) -> None:
    bob = await server.member("bob")
    assert [user.username for user in await bob.users.list()] == ["bob"]
    assert [user.username for user in await server.admin.users.list()] == ["admin", "bob"]
    with pytest.raises(NotFound):
        await bob.users.get("admin")
    organization = (await server.admin.organizations.mine())[0]
    with pytest.raises(Forbidden, match="not authorized to create users"):
        await bob.users.create(
            CreateUser(email="z@example.com", username="zed", password=PASSWORD, organization_ids=[organization.id])
        )


async def test_a_suspended_user_is_out_at_once_and_back_when_activated(server: Site) -> None:
    bob = await server.member("bob")
    await server.admin.users.set_status("bob", "suspend")
    with pytest.raises(Unauthenticated, match="suspended"):
        await bob.users.get()
    with pytest.raises(Unauthenticated, match="Your account is suspended"):
        await server.signed_in("bob@example.com")
    await server.admin.users.set_status("bob", "activate")
    assert (await bob.users.get()).username == "bob"


async def test_owners_cannot_lock_themselves_out(server: Site) -> None:
    with pytest.raises(Invalid, match="cannot suspend yourself"):
        await server.admin.users.set_status("me", "suspend")
    with pytest.raises(Forbidden, match="cannot delete yourself"):
        await server.admin.users.delete("me")
    with pytest.raises(Invalid, match="cannot change your own roles"):
        await server.admin.users.set_roles("me", [])


async def test_the_name_of_a_deleted_user_is_free_again(server: Site) -> None:
    bob = await server.member("bob")
    await server.admin.users.delete("bob")
    with pytest.raises(Unauthenticated):
        await bob.users.get()
    organization = (await server.admin.organizations.mine())[0]
    again = CreateUser(email="bob@example.com", username="bob", password=PASSWORD, organization_ids=[organization.id])
    assert (await server.admin.users.create(again)).username == "bob"
    with pytest.raises(Conflict, match="User already exists"):
        await server.admin.users.create(again)


async def test_roles_are_granted_only_by_those_who_may(server: Site) -> None:
    bob = await server.member("bob")
    await server.member("carl")
    changed = await server.admin.users.set_roles("bob", ["user-admin"])
    assert [role.name for role in changed.roles] == ["user-admin"]
    assert {user.username for user in await bob.users.list()} == {"admin", "bob", "carl"}
    with pytest.raises(Forbidden):
        await bob.users.set_roles("carl", ["owner"])
    with pytest.raises(Invalid, match='"king" is not a supported role'):
        await server.admin.users.set_roles("carl", ["king"])


async def test_a_token_signs_in_within_its_scope_until_it_is_removed(server: Site) -> None:
    wanted = CreateToken(token_name="ci", lifetime=3600 * 10**9, scopes=["user:read"])
    token = await server.admin.tokens.create(wanted)
    async with Client(server.url, token=token) as client:
        assert (await client.users.get()).username == "admin"
        with pytest.raises((NotFound, Forbidden)):
            await client.users.delete("admin")
        listed = await server.admin.tokens.list(everyones=False, expired=False)
        assert [(key.token_name, key.scopes, key.allow_list) for key in listed] == [("ci", ["user:read"], ["*:*"])]
        with pytest.raises(Conflict, match='"ci" already exists'):
            await server.admin.tokens.create(wanted)
        await server.admin.tokens.delete(listed[0].id)
        with pytest.raises(Unauthenticated):
            await client.users.get()


async def test_a_password_is_changed_with_the_old_one_and_ends_all_sessions(server: Site) -> None:
    bob = await server.member("bob")
    path = "/users/me/password"
    with pytest.raises(Invalid, match="Old password"):
        await bob.call("PUT", path, body=UpdatePassword(old_password="wrong", password="An0ther!Secret"))
    await bob.call("PUT", path, body=UpdatePassword(old_password=PASSWORD, password="An0ther!Secret"))
    with pytest.raises(Unauthenticated):
        await bob.users.get()
    assert (await (await server.signed_in("bob@example.com", "An0ther!Secret")).users.get()).username == "bob"


@pytest.mark.parametrize(
    ("email", "username", "password", "field"),
    [
        ("nomail", "dora", PASSWORD, "email"),
        ("d@example.com", "Bad Name!", PASSWORD, "username"),
        ("d@example.com", "new", PASSWORD, "username"),
        ("d@example.com", "dora", "abc", "password"),
        ("d@example.com", "dora", "x" * 65, "password"),
    ],
)
async def test_an_account_that_cannot_be_names_the_field(
    server: Site, email: str, username: str, password: str, field: str
) -> None:
    organization = (await server.admin.organizations.mine())[0]
    wanted = CreateUser(email=email, username=username, password=password, organization_ids=[organization.id])
    with pytest.raises(Invalid) as raised:
        await server.admin.users.create(wanted)
    assert [violation.field for violation in raised.value.violations] == [field]
