"""Tags: which daemon may run which job."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

SCOPE = "scope"
OWNER = "owner"
ORGANIZATION = "organization"
USER = "user"

UNTAGGED: Mapping[str, str] = {SCOPE: ORGANIZATION, OWNER: ""}
"""The tags of a job that asks for nothing special: only daemons with exactly these take it."""


def scoped(tags: Mapping[str, str], user_id: UUID | None) -> dict[str, str]:
    """Complete tags with a scope and an owner: the user's own daemons, or those of the organization."""
    result = dict(tags)
    if result.get(SCOPE) == USER and user_id is not None:
        result[OWNER] = str(user_id)
    else:
        result[SCOPE] = ORGANIZATION
        result[OWNER] = ""
    return result


def merge(evaluated: Mapping[str, str], requested: Mapping[str, str]) -> dict[str, str]:
    """Overlay tags that a request names; an empty value in the request does not override."""
    return {**evaluated, **{key: value for key, value in requested.items() if value or key not in evaluated}}


def runs(daemon: Mapping[str, str], job: Mapping[str, str]) -> bool:
    """Say whether a daemon with these tags may take a job with those."""
    if dict(job) == UNTAGGED:
        return dict(daemon) == UNTAGGED
    return all(daemon.get(key) == value for key, value in job.items())
