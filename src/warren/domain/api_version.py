"""Versions of the remote calls: what a peer asks for, and whether we have it."""

from __future__ import annotations

from dataclasses import dataclass

from warren.errors import Invalid, Violation

UNSUPPORTED = "Unknown or unsupported API version"  # clients compare this text


@dataclass(frozen=True, slots=True)
class APIVersion:
    """A version that this release serves, with all older minor ones."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


AGENT_API = APIVersion(2, 13)
"""Of the agent and the tailnet calls, which share one number."""

PROVISIONER_API = APIVersion(1, 18)
"""Of the calls of provisioner daemons."""


def check(wanted: str, served: APIVersion) -> None:
    """Refuse a version that we do not serve.

    Raises:
        Invalid: it is malformed, newer, or of an older major version.
    """
    if problem := _problem(wanted, served):
        raise Invalid(UNSUPPORTED, violations=[Violation("version", problem)])


def _problem(wanted: str, served: APIVersion) -> str:
    parts = wanted.split(".")
    if len(parts) != 2:
        return f"invalid version string: {wanted}"
    for name, part in zip(("major", "minor"), parts, strict=True):
        if not (part.isascii() and part.isdigit()):
            return f"invalid {name} version: {wanted}"
    major, minor = int(parts[0]), int(parts[1])
    if major > served.major:
        return f"server is at version {served}, behind requested major version {wanted}"
    if major < served.major:
        return f"version {wanted} is no longer supported"
    if minor > served.minor:
        return f"server is at version {served}, behind requested minor version {wanted}"
    return ""
