"""What agents send and receive by REST, with their own token."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from warren.sdk.types.base import Wire


class CreateLogSource(Wire, frozen=True):
    """A source of log lines to be known."""

    id: UUID
    display_name: str = ""
    icon: str = ""


class NewLogLine(Wire, frozen=True):
    """One line of an agent's log."""

    created_at: datetime | None = None
    output: str = ""
    level: str = ""


class PatchLogs(Wire, frozen=True):
    """Lines to be added to an agent's log."""

    log_source_id: UUID | None = None
    logs: list[NewLogLine] = []


class PatchAppStatus(Wire, frozen=True):
    """What an app says that it is doing."""

    app_slug: str = ""
    state: str = ""
    message: str = ""
    uri: str = ""
    icon: str = ""
    needs_user_attention: bool = False


class AgentGitSSHKey(Wire, frozen=True):
    """The key that a user's workspaces use for git."""

    public_key: str
    private_key: str
