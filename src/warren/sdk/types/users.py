"""Build info, users, sessions, tokens and keys."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from warren.sdk.types.base import NIL_UUID, Nanoseconds, Sparse, Wire


class BuildInfo(Sparse, frozen=True):
    """What server this is and which protocol versions it speaks."""

    external_url: str
    version: str
    dashboard_url: str
    telemetry: bool
    workspace_proxy: bool
    agent_api_version: str
    provisioner_api_version: str
    upgrade_message: str
    deployment_id: str
    webpush_public_key: str = ""


class UpdateCheck(Wire, frozen=True):
    """Whether a newer version is known; Warren asks nobody, so it is always current."""

    current: bool
    version: str
    url: str


class MethodEnabled(Wire, frozen=True):
    """Whether a way to sign in is offered."""

    enabled: bool


class GitHubMethod(Wire, frozen=True):
    """Whether sign-in with GitHub is offered, and by whose application."""

    enabled: bool
    default_provider_configured: bool


class OIDCMethod(Wire, frozen=True):
    """Whether sign-in by OpenID Connect is offered, and how its button looks."""

    enabled: bool
    signInText: str  # noqa: N815  a wire name
    iconUrl: str  # noqa: N815  a wire name


class AuthMethods(Sparse, frozen=True):
    """The ways to sign in."""

    password: MethodEnabled
    github: GitHubMethod
    oidc: OIDCMethod
    terms_of_service_url: str = ""


class SlimRole(Sparse, frozen=True):
    """A role by name."""

    name: str
    display_name: str
    organization_id: str = ""


class MinimalUser(Sparse, frozen=True):
    """A user as others see it in passing."""

    id: UUID
    username: str
    name: str = ""
    avatar_url: str = ""


class User(Sparse, frozen=True):
    """A user."""

    id: UUID
    username: str
    email: str
    created_at: datetime
    updated_at: datetime
    last_seen_at: datetime
    status: str
    login_type: str
    organization_ids: list[UUID]
    roles: list[SlimRole]
    has_ai_seat: bool
    name: str = ""
    avatar_url: str = ""
    is_service_account: bool = False
    theme_preference: str = ""


class UserList(Wire, frozen=True):
    """A page of users; `count` is of all that match."""

    users: list[User]
    count: int


class UserRoles(Wire, frozen=True):
    """The roles of a user, site-wide and by organization."""

    roles: list[str]
    organization_roles: dict[UUID, list[str]]


class TrialInfo(Sparse, frozen=True):
    """Sent by clients when they create the first user; Warren has no trial."""

    first_name: str = ""
    last_name: str = ""
    phone_number: str = ""
    job_title: str = ""
    company_name: str = ""
    country: str = ""
    developers: str = ""


class CreateFirstUser(Sparse, frozen=True):
    """Create the first user, who becomes owner."""

    email: str
    username: str
    password: str
    name: str = ""
    trial: bool = False
    trial_info: TrialInfo | None = None


class CreatedFirstUser(Wire, frozen=True):
    """The first user and its organization."""

    user_id: UUID
    organization_id: UUID


class CreateUser(Sparse, frozen=True):
    """Create a user in one or more organizations."""

    username: str = ""
    email: str = ""
    name: str = ""
    password: str = ""
    login_type: str = ""
    user_status: str | None = None
    organization_ids: list[UUID] | None = None
    organization_id: UUID = NIL_UUID
    service_account: bool = False
    roles: list[str] | None = None


class Login(Sparse, frozen=True):
    """Sign in with a password."""

    email: str
    password: str


class LoggedIn(Wire, frozen=True):
    """The token of a new session."""

    session_token: str


class UpdateProfile(Sparse, frozen=True):
    """Change what others see of a user."""

    username: str = ""
    name: str = ""
    avatar_url: str | None = None


class UpdatePassword(Sparse, frozen=True):
    """Change a password; the old one is needed for one's own."""

    password: str
    old_password: str = ""


class ValidatePassword(Sparse, frozen=True):
    """Ask whether a password is strong enough."""

    password: str


class PasswordValidity(Wire, frozen=True):
    """Whether a password is strong enough, and why not."""

    valid: bool
    details: str


class UpdateRoles(Sparse, frozen=True):
    """Replace the roles of a user or member."""

    roles: list[str] | None = None


class LoginType(Wire, frozen=True):
    """How a user signs in."""

    login_type: str


class UserAppearance(Sparse, frozen=True):
    """How the dashboard looks to a user."""

    theme_preference: str
    terminal_font: str
    theme_mode: str = ""
    theme_light: str = ""
    theme_dark: str = ""


class UserParameter(Wire, frozen=True):
    """A value to prefill a parameter with."""

    name: str
    value: str


class GitSSHKey(Wire, frozen=True):
    """A user's key for git over SSH."""

    user_id: UUID
    created_at: datetime
    updated_at: datetime
    public_key: str


class APIKey(Wire, frozen=True):
    """A session or token, without its secret."""

    id: str
    user_id: UUID
    last_used: datetime
    expires_at: datetime
    created_at: datetime
    updated_at: datetime
    login_type: str
    scope: str
    scopes: list[str]
    token_name: str
    lifetime_seconds: int
    allow_list: list[str]


class APIKeyWithOwner(Wire, frozen=True):
    """A token, and whose it is."""

    id: str
    user_id: UUID
    last_used: datetime
    expires_at: datetime
    created_at: datetime
    updated_at: datetime
    login_type: str
    scope: str
    scopes: list[str]
    token_name: str
    lifetime_seconds: int
    allow_list: list[str]
    username: str


class CreateToken(Sparse, frozen=True):
    """Create a token; a lifetime of 0 means the default."""

    lifetime: Nanoseconds = 0
    scope: str = ""
    scopes: list[str] | None = None
    token_name: str = ""
    allow_list: list[str] | None = None


class CreatedKey(Wire, frozen=True):
    """A new key, shown once."""

    key: str


class TokenConfig(Wire, frozen=True):
    """How long a token may live."""

    max_token_lifetime: Nanoseconds
