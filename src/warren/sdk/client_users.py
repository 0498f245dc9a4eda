"""Users, sign-in, tokens, organizations."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from warren.errors import NotFound
from warren.sdk.client import Client, segment
from warren.sdk.types import organizations, users
from warren.sdk.types.base import Response


@dataclass(frozen=True, slots=True)
class Users:
    """Users, sign-in and keys."""

    client: Client

    async def first_exists(self) -> bool:
        """Say whether the server has a user."""
        try:
            await self.client.get("/users/first", Response)
        except NotFound:
            return False
        return True

    async def create_first(self, request: users.CreateFirstUser) -> users.CreatedFirstUser:
        """Create the first user."""
        return await self.client.post("/users/first", users.CreatedFirstUser, request)

    async def auth_methods(self) -> users.AuthMethods:
        """Say how users may sign in."""
        return await self.client.get("/users/authmethods", users.AuthMethods)

    async def login(self, email: str, password: str) -> str:
        """Sign in; return the session token."""
        request = users.Login(email=email, password=password)
        return (await self.client.post("/users/login", users.LoggedIn, request)).session_token

    async def logout(self) -> None:
        """End the session of this client's token."""
        await self.client.call("POST", "/users/logout")

    async def create_key(self) -> str:
        """Make a session token for a program of the current user."""
        return (await self.client.post("/users/me/keys", users.CreatedKey)).key

    async def get(self, user: str = "me") -> users.User:
        """Get a user by name or id."""
        return await self.client.get(f"/users/{segment(user)}", users.User)

    async def list(self, query: str = "") -> list[users.User]:
        """List the users that match a search."""
        return (await self.client.get("/users", users.UserList, {"q": query})).users

    async def create(self, request: users.CreateUser) -> users.User:
        """Create a user."""
        return await self.client.post("/users", users.User, request)

    async def delete(self, user: str | UUID) -> None:
        """Delete a user."""
        await self.client.call("DELETE", f"/users/{segment(user)}")

    async def set_status(self, user: str | UUID, action: str) -> users.User:
        """Change a user's status: `suspend` or `activate`."""
        return await self.client.put(f"/users/{segment(user)}/status/{action}", users.User)

    async def assignable_roles(self) -> list[organizations.AssignableRole]:
        """List the site-wide roles."""
        return await self.client.get("/users/roles", list[organizations.AssignableRole])

    async def roles(self, user: str) -> users.UserRoles:
        """Get the roles of a user."""
        return await self.client.get(f"/users/{segment(user)}/roles", users.UserRoles)

    async def set_roles(self, user: str, roles: list[str]) -> users.User:
        """Replace the site-wide roles of a user."""
        return await self.client.put(f"/users/{segment(user)}/roles", users.User, users.UpdateRoles(roles=roles))

    async def git_ssh_key(self) -> users.GitSSHKey:
        """Get the public half of the current user's key for git."""
        return await self.client.get("/users/me/gitsshkey", users.GitSSHKey)

    async def regenerate_git_ssh_key(self) -> users.GitSSHKey:
        """Replace the current user's key for git."""
        return await self.client.put("/users/me/gitsshkey", users.GitSSHKey)


@dataclass(frozen=True, slots=True)
class Tokens:
    """API tokens."""

    client: Client

    async def create(self, request: users.CreateToken, *, user: str = "me") -> str:
        """Create a token; return its secret."""
        return (await self.client.post(f"/users/{segment(user)}/keys/tokens", users.CreatedKey, request)).key

    async def config(self, *, user: str = "me") -> users.TokenConfig:
        """Say how long a token may live."""
        return await self.client.get(f"/users/{segment(user)}/keys/tokens/tokenconfig", users.TokenConfig)

    async def list(self, *, everyones: bool, expired: bool) -> list[users.APIKeyWithOwner]:
        """List tokens, of everyone or only one's own."""
        query = {"include_all": everyones, "include_expired": expired}
        return await self.client.get_list("/users/me/keys/tokens", list[users.APIKeyWithOwner], query)

    async def find(self, name_or_id: str) -> users.APIKey:
        """Get a token by name, else by id."""
        try:
            return await self.client.get(f"/users/me/keys/tokens/{segment(name_or_id)}", users.APIKey)
        except NotFound:
            return await self.client.get(f"/users/me/keys/{segment(name_or_id)}", users.APIKey)

    async def expire(self, key_id: str) -> None:
        """End a token but keep its row."""
        await self.client.call("PUT", f"/users/me/keys/{segment(key_id)}/expire")

    async def delete(self, key_id: str) -> None:
        """Delete a token."""
        await self.client.call("DELETE", f"/users/me/keys/{segment(key_id)}")


@dataclass(frozen=True, slots=True)
class Organizations:
    """Organizations and members."""

    client: Client

    async def mine(self) -> list[organizations.Organization]:
        """List the organizations of the current user."""
        return await self.client.get("/users/me/organizations", list[organizations.Organization])

    async def get(self, name_or_id: str) -> organizations.Organization:
        """Get an organization by name or id."""
        return await self.client.get(f"/organizations/{segment(name_or_id)}", organizations.Organization)
