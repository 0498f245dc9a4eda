"""What a session is and what it may do, decided from what the client asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

TYPE_VARIABLE = "CODER_SSH_SESSION_TYPE"
CONTAINER_VARIABLE = "CODER_CONTAINER"
CONTAINER_USER_VARIABLE = "CODER_CONTAINER_USER"
_TRANSFER_PROGRAMS = frozenset({"nc", "rsync", "scp", "sftp"})
BLOCKED_TEXT = b"\x02File transfer has been disabled.\n"
BLOCKED_STATUS = 65


class SessionType(StrEnum):
    """What kind of client opened a session; values are those of the variable it sends."""

    SSH = "ssh"
    VSCODE = "vscode"
    JETBRAINS = "jetbrains"
    UNKNOWN = "unknown"

    @property
    def counted(self) -> bool:
        """Say whether its sessions count as use; JetBrains is counted by its forwarded connections instead."""
        return self in {SessionType.SSH, SessionType.VSCODE}


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What the client's variables mean, and the variables that are left for the command."""

    type: SessionType
    container: str
    environment: Mapping[str, str]


def read_request(sent: Mapping[str, str]) -> SessionRequest:
    """Take the variables that are meant for the agent out of those a client sent."""
    rest = dict(sent)
    name = rest.pop(TYPE_VARIABLE, "").lower() or "ssh"
    container = rest.pop(CONTAINER_VARIABLE, "")
    rest.pop(CONTAINER_USER_VARIABLE, None)
    known = name in {kind.value for kind in SessionType} and name != SessionType.UNKNOWN.value
    return SessionRequest(SessionType(name) if known else SessionType.UNKNOWN, container, rest)


def transfers_files(command: str) -> bool:
    """Say whether a command is one of the usual tools to move files: a deterrent, not a boundary."""
    words = command.split()
    return bool(words) and words[0].rpartition("/")[2] in _TRANSFER_PROGRAMS
