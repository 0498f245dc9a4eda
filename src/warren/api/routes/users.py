"""Accounts: `/users`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request, delete, get, post, put
from litestar import Response as Answer

from warren.api import auth
from warren.api.convert import users as convert
from warren.api.errors import Refused
from warren.api.exchange import exchange_of
from warren.api.gate import GateSettings
from warren.api.params import Query
from warren.authz.policy import Action, Actor, Object
from warren.authz.roles import ASSIGNABLE, RoleOptions, site_roles
from warren.domain import names
from warren.domain import password as password_rules
from warren.domain.search import parse
from warren.domain.user import LoginType, UserStatus
from warren.errors import Forbidden, Invalid, NotFound, Violation
from warren.sdk.types import organizations as org_wire
from warren.sdk.types import users as wire
from warren.sdk.types.base import Response, present
from warren.services.deployment import Deployment
from warren.services.organizations import Organizations
from warren.services.sessions import Session, Sessions
from warren.services.users import NewUser, OwnsWorkspaces, Users
from warren.storage.users import Profile, UserFilter

_USERS = "/api/v2/users"
_USER = _USERS + "/{user:str}"
YEAR_SECONDS = 365 * 24 * 3600  # the server's own expiry decides; the cookie outlives it
_APPEARANCE = ("theme_preference", "theme_mode", "theme_light", "theme_dark", "terminal_font")
_PREFERENCES = {
    "task_notification_alert_dismissed": "false",
    "thinking_display_mode": "auto",
    "shell_tool_display_mode": "always_collapsed",
    "code_diff_display_mode": "",
    "agent_chat_send_shortcut": "enter",
}


@get(_USERS + "/first")
async def first_exists(users: Users) -> Response:
    """Say whether there is a user."""
    if not await users.has_first():
        raise NotFound("The initial user has not been created!")
    return Response(message="The initial user has already been created!")


@post(_USERS + "/first", status_code=201)
async def create_first(data: wire.CreateFirstUser, users: Users) -> wire.CreatedFirstUser:
    """Create the first user."""
    _require(email=data.email, username=data.username, password=data.password)
    wanted = NewUser(email=data.email, username=data.username, name=data.name, password=data.password)
    created = await users.create_first(wanted)
    return wire.CreatedFirstUser(user_id=created.id, organization_id=created.organization_ids[0])


@get(_USERS + "/authmethods")
async def auth_methods(sessions: Sessions, deployment: Deployment) -> wire.AuthMethods:
    """Name the ways to sign in."""
    return wire.AuthMethods(
        password=wire.MethodEnabled(enabled=sessions.password_login),
        github=wire.GitHubMethod(enabled=False, default_provider_configured=False),
        oidc=wire.OIDCMethod(enabled=False, signInText="", iconUrl=""),
        terms_of_service_url=deployment.settings.terms_of_service_url,
    )


@post(_USERS + "/login", status_code=201)
async def login(
    request: Request[Any, Any, Any], data: wire.Login, sessions: Sessions, gate_settings: GateSettings
) -> Answer[Any]:
    """Sign in with a password."""
    _require(email=data.email, password=data.password)
    if problem := names.email_problem(data.email):
        raise Invalid("Validation failed.", violations=[problem])
    created = await sessions.log_in(data.email, data.password, exchange_of(request.scope).ip_address)
    return Answer(
        wire.LoggedIn(session_token=created.token), headers={"Set-Cookie": _cookie(created.token, gate_settings)}
    )


@post(_USERS + "/logout", status_code=200)
async def logout(session: Session, sessions: Sessions, gate_settings: GateSettings) -> Answer[Any]:
    """End the session."""
    await sessions.log_out(session)
    return Answer(Response(message="Logged out!"), headers={"Set-Cookie": _cookie("", gate_settings, age=0)})


def _cookie(token: str, settings: GateSettings, age: int = YEAR_SECONDS) -> str:
    secure = "; Secure" if settings.secure_cookies else ""
    name = f"{auth.HOST_PREFIX}{auth.COOKIE}" if settings.host_prefix else auth.COOKIE
    return f"{name}={token}; Path=/; Max-Age={age}; HttpOnly{secure}; SameSite={settings.same_site.capitalize()}"


@post(_USERS + "/validate-password", status_code=200)
async def validate_password(data: wire.ValidatePassword) -> wire.PasswordValidity:
    """Say whether a password is strong enough."""
    problem = password_rules.problem(data.password)
    return wire.PasswordValidity(valid=not problem, details=problem)


@get(_USERS)
async def list_users(request: Request[Any, Any, Any], actor: Actor, users: Users) -> wire.UserList:
    """List users."""
    query = Query(request.query_params)
    page = query.page()
    query.finish()
    found, count = await users.list(actor, _filter(query.text("q")), page)
    return wire.UserList(users=[convert.user(each) for each in found], count=count)


def _filter(text: str) -> UserFilter:
    terms = parse(text, kind="user", default="search")
    wanted = UserFilter(
        search=terms.take("search"),
        name=terms.take("name"),
        statuses=terms.take_list("status"),
        roles=terms.take_list("role"),
        login_types=terms.take_list("login_type"),
        service_account=terms.take_bool("service_account"),
        last_seen_after=terms.take_time("last_seen_after"),
        last_seen_before=terms.take_time("last_seen_before"),
        created_after=terms.take_time("created_after"),
        created_before=terms.take_time("created_before"),
    )
    terms.take("github_com_user_id")
    terms.finish()
    return wanted


@post(_USERS, status_code=201)
async def create_user(data: wire.CreateUser, actor: Actor, users: Users) -> wire.User:
    """Create a user."""
    _require(username=data.username)
    single = present(data.organization_id)
    wanted = NewUser(
        email=data.email,
        username=data.username,
        name=data.name,
        password=data.password,
        login_type=_choice("login_type", data.login_type, LoginType, LoginType.PASSWORD),
        status=_choice("user_status", data.user_status or "", UserStatus, UserStatus.DORMANT),
        organization_ids=data.organization_ids or ([single] if single else []),
        roles=data.roles or [],
        service_account=data.service_account,
    )
    return convert.user(await users.create(actor, wanted))


def _choice(field: str, value: str, kind: type[LoginType | UserStatus], default: str) -> str:
    if not value:
        return default
    try:
        return kind(value)
    except ValueError as error:
        raise Invalid("Validation failed.", violations=[names.violation(field, "oneof", value)]) from error


@get(_USERS + "/roles")
async def list_roles(actor: Actor) -> list[org_wire.AssignableRole]:
    """List the site roles."""
    actor.allow(Action.READ, Object("assign_role"))
    assignable = {name for role in actor.site_roles for name in ASSIGNABLE.get(role.name, ())}
    return [
        convert.role(role, assignable=role.name in assignable)
        for role in site_roles(RoleOptions()).values()
        if role.name != "member"
    ]


@get(_USER)
async def read_user(user: str, actor: Actor, users: Users) -> wire.User:
    """Read a user."""
    return convert.user(await users.find(actor, user))


@delete(_USER, status_code=200)
async def delete_user(user: str, actor: Actor, users: Users) -> Response:
    """Delete a user."""
    try:
        await users.delete(actor, user)
    except OwnsWorkspaces as error:
        raise Refused(417, error.message) from error
    return Response(message="User has been deleted!")


@put(_USER + "/profile")
async def set_profile(user: str, data: wire.UpdateProfile, actor: Actor, users: Users) -> wire.User:
    """Change what others see of a user."""
    found = await users.find(actor, user)
    avatar = found.avatar_url if data.avatar_url is None else data.avatar_url
    profile = Profile(data.username or found.username, data.name, avatar)
    return convert.user(await users.set_profile(actor, user, profile))


@put(_USER + "/status/suspend")
async def suspend(user: str, actor: Actor, users: Users) -> wire.User:
    """Keep a user from signing in."""
    return convert.user(await users.set_status(actor, user, UserStatus.SUSPENDED))


@put(_USER + "/status/activate")
async def activate(user: str, actor: Actor, users: Users) -> wire.User:
    """Let a user sign in."""
    return convert.user(await users.set_status(actor, user, UserStatus.ACTIVE))


@put(_USER + "/password", status_code=204)
async def set_password(user: str, data: wire.UpdatePassword, actor: Actor, users: Users) -> None:
    """Change a password."""
    await users.set_password(actor, user, data.password, data.old_password)


@get(_USER + "/roles")
async def read_roles(user: str, actor: Actor, users: Users) -> wire.UserRoles:
    """Read a user's roles."""
    found = await users.find(actor, user)
    of_organizations = await users.organization_roles(found)
    return wire.UserRoles(
        roles=list(found.roles), organization_roles={key: list(roles) for key, roles in of_organizations.items()}
    )


@put(_USER + "/roles")
async def set_roles(user: str, data: wire.UpdateRoles, actor: Actor, users: Users) -> wire.User:
    """Replace a user's roles."""
    return convert.user(await users.set_roles(actor, user, data.roles or []))


@get(_USER + "/login-type")
async def login_type(user: str, actor: Actor, users: Users) -> wire.LoginType:
    """Tell how the caller signs in."""
    found = await users.find(actor, user)
    if found.id != actor.user_id:
        raise Forbidden("You are not authorized to view this user's login type.")
    return wire.LoginType(login_type=found.login_type)


@get(_USER + "/appearance")
async def read_appearance(user: str, actor: Actor, users: Users) -> dict[str, str]:
    """Read how the dashboard looks to a user."""
    found = await users.read_configs(actor, user)
    return {name: found.get(name, "") for name in _APPEARANCE}


@put(_USER + "/appearance")
async def set_appearance(user: str, data: wire.UserAppearance, actor: Actor, users: Users) -> dict[str, str]:
    """Change how the dashboard looks to a user."""
    found = await users.write_configs(actor, user, {name: str(getattr(data, name)) for name in _APPEARANCE})
    return {name: found.get(name, "") for name in _APPEARANCE}


@get(_USER + "/preferences")
async def read_preferences(user: str, actor: Actor, users: Users) -> dict[str, object]:
    """Read what a user prefers."""
    return _preferences(await users.read_configs(actor, user))


@put(_USER + "/preferences")
async def set_preferences(user: str, data: dict[str, Any], actor: Actor, users: Users) -> dict[str, object]:
    """Change what a user prefers; any JSON value by key, those not known are left out."""
    values = {name: _config_text(data[name]) for name in _PREFERENCES if name in data}
    return _preferences(await users.write_configs(actor, user, values))


def _config_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _preferences(found: Any) -> dict[str, object]:
    values: dict[str, object] = {name: found.get(name, default) for name, default in _PREFERENCES.items()}
    values["task_notification_alert_dismissed"] = values["task_notification_alert_dismissed"] == "true"
    return values


@get(_USER + "/autofill-parameters")
async def autofill(request: Request[Any, Any, Any], user: str, actor: Actor, users: Users) -> list[wire.UserParameter]:
    """List what a user gave to a template's parameters last."""
    query = Query(request.query_params)
    template_id: UUID | None = query.uuid("template_id")
    query.finish()
    if template_id is None:
        raise Invalid("Invalid query parameters.", violations=[Violation("template_id", "required")])
    found = await users.recent_parameters(actor, user, template_id)
    return [wire.UserParameter(name=name, value=value) for name, value in found]


@get(_USER + "/gitsshkey")
async def read_ssh_key(user: str, actor: Actor, users: Users) -> wire.GitSSHKey:
    """Read a user's key for git."""
    return convert.git_ssh_key(await users.ssh_key(actor, user))


@put(_USER + "/gitsshkey")
async def replace_ssh_key(user: str, actor: Actor, users: Users) -> wire.GitSSHKey:
    """Give a user a new key for git."""
    return convert.git_ssh_key(await users.replace_ssh_key(actor, user))


@get(_USER + "/organizations")
async def list_organizations(user: str, actor: Actor, organizations: Organizations) -> list[org_wire.Organization]:
    """List a user's organizations."""
    return [convert.organization(each) for each in await organizations.list_of_user(actor, user)]


@get(_USER + "/organizations/{organization:str}")
async def read_organization(
    user: str, organization: str, actor: Actor, organizations: Organizations
) -> org_wire.Organization:
    """Read an organization of a user."""
    found = await organizations.get(actor, organization)
    await organizations.member(actor, organization, user)
    return convert.organization(found)


def _require(**given: str) -> None:
    if problems := names.required(**given):
        raise Invalid("Validation failed.", violations=problems)


routes = [
    first_exists,
    create_first,
    auth_methods,
    login,
    logout,
    validate_password,
    list_users,
    create_user,
    list_roles,
    read_user,
    delete_user,
    set_profile,
    suspend,
    activate,
    set_password,
    read_roles,
    set_roles,
    login_type,
    read_appearance,
    set_appearance,
    read_preferences,
    set_preferences,
    autofill,
    read_ssh_key,
    replace_ssh_key,
    list_organizations,
    read_organization,
]
