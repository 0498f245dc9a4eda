"""Agents that agents make, one for each dev container: the rules for their names and apps."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from warren.errors import Invalid, Violation

NAME = re.compile(r"[a-z0-9](-?[a-z0-9])*", re.IGNORECASE)
SLUG = re.compile(r"[a-z0-9](-?[a-z0-9])*")
_LEVELS = ("owner", "organization", "authenticated", "public")
_HASH_CHARACTERS = 8


@dataclass(frozen=True, slots=True)
class NewApp:
    """An app that a sub-agent is to offer."""

    slug: str
    display_name: str
    command: str
    url: str
    icon: str
    group: str
    external: bool
    subdomain: bool
    hidden: bool
    open_in: str
    order: int
    sharing_level: str
    healthcheck_url: str
    healthcheck_interval: int
    healthcheck_threshold: int


@dataclass(frozen=True, slots=True)
class NewSubAgent:
    """A sub-agent that its parent asks for."""

    name: str
    directory: str
    architecture: str
    operating_system: str
    display_apps: Sequence[str]
    apps: Sequence[NewApp]


@dataclass(frozen=True, slots=True)
class AppProblem:
    """Why one of the apps cannot be; `index` is its place in the request."""

    index: int
    field: str
    error: str


def check_name(name: str) -> str:
    """Read the name of a sub-agent.

    Raises:
        Invalid: it is none.
    """
    if not name:
        raise _name_error("agent name cannot be empty")
    if not NAME.fullmatch(name):
        raise _name_error(f'agent name "{name}" does not match regex "{NAME.pattern}"')
    return name


def _name_error(detail: str) -> Invalid:
    return Invalid(f"name: {detail}", violations=[Violation("name", detail)])


def check_apps(apps: Sequence[NewApp]) -> tuple[Sequence[NewApp], Sequence[AppProblem]]:
    """Part apps that can be from those that cannot."""
    good: list[NewApp] = []
    problems: list[AppProblem] = []
    seen: set[str] = set()
    for index, app in enumerate(apps):
        if error := _slug_problem(app.slug, seen):
            problems.append(AppProblem(index, "slug", error))
            continue
        seen.add(app.slug)
        good.append(app)
    return good, problems


def _slug_problem(slug: str, seen: set[str]) -> str:
    if not slug:
        return "must not be empty"
    if not SLUG.fullmatch(slug):
        return f'"{slug}" does not match regex "{SLUG.pattern}"'
    return f'"{slug}" is already in use' if slug in seen else ""


def stored_slug(agent_name: str, slug: str) -> str:
    """Make a slug that no other container's app of the workspace has."""
    digest = hashlib.sha256(f"{agent_name}/{slug}".encode()).digest()
    return base64.b32hexencode(digest).decode().lower()[:_HASH_CHARACTERS] + "-" + slug


def clamp_level(wanted: str, most: str) -> str:
    """Cut a sharing level to what the template allows."""
    return min(wanted, most, key=_LEVELS.index)
