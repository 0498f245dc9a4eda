"""Templates and their versions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from warren.domain.job import JobStatus
from warren.domain.schedule import ALL_DAYS
from warren.errors import Conflict, Forbidden, Invalid, Violation

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
NIL = UUID(int=0)

USE: Sequence[str] = ("read", "use")
"""What `use` of a template allows, as its access list stores it."""

_VERSION_NAME = re.compile(r"[a-zA-Z0-9]+(?:[_.-][a-zA-Z0-9]+)*")
_NAME = re.compile(r"[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*")
_RESERVED_NAMES = frozenset({"new", "create"})


def name_problem(name: str, *, tag: str) -> Violation | None:
    """Refuse what cannot be the name of a template or workspace; `tag` names the rule to clients."""
    if 1 <= len(name) <= 32 and _NAME.fullmatch(name) and name.lower() not in _RESERVED_NAMES:
        return None
    return tag_violation("name", tag, name)


def version_name_problem(name: str) -> Violation | None:
    """Refuse what cannot be the name of a template version."""
    if 1 <= len(name) <= 64 and _VERSION_NAME.fullmatch(name):
        return None
    return tag_violation("name", "template_version_name", name)


def display_name_problem(name: str) -> Violation | None:
    """Refuse what cannot be shown instead of a name."""
    if len(name) <= 64 and name == name.strip():
        return None
    return tag_violation("display_name", "template_display_name", name)


def tag_violation(field: str, tag: str, value: object) -> Violation:
    """Say that a field breaks the rule called `tag`."""
    return Violation(field, f'Validation failed for tag "{tag}" with value: "{value}"')


def days_from_names(field: str, names: Sequence[str]) -> int:
    """Turn weekday names into bits; bit 0 is Monday.

    Raises:
        Invalid: a name is not that of a weekday.
    """
    bits = 0
    for name in names:
        if name not in WEEKDAYS:
            raise Invalid("Invalid request.", violations=[Violation(field, f'invalid weekday "{name}"')])
        bits |= 1 << WEEKDAYS.index(name)
    return bits


def names_from_days(bits: int) -> list[str]:
    """Turn weekday bits into names."""
    return [name for number, name in enumerate(WEEKDAYS) if bits & (1 << number)]


@dataclass(frozen=True, slots=True)
class TemplateSettings:
    """What the people who manage a template choose; the names are those of the columns."""

    name: str = ""
    display_name: str = ""
    description: str = ""
    icon: str = ""
    deprecation_message: str = ""
    default_ttl_ms: int = 0
    activity_bump_ms: int = HOUR_MS
    time_til_autostop_notify_ms: int = 0
    failure_ttl_ms: int = 0
    time_til_dormant_ms: int = 0
    time_til_dormant_autodelete_ms: int = 0
    autostop_days_of_week: int = 0
    autostop_weeks: int = 1
    autostart_days_of_week: int = ALL_DAYS
    allow_user_cancel_workspace_jobs: bool = False
    allow_user_autostart: bool = True
    allow_user_autostop: bool = True
    require_active_version: bool = False
    use_classic_parameter_flow: bool = False
    disable_module_cache: bool = False
    max_port_share_level: str = "owner"
    cors_behavior: str = "simple"


@dataclass(frozen=True, slots=True)
class Template:
    """What workspaces are made from, with the names that go with it."""

    id: UUID
    organization_id: UUID
    provisioner: str
    active_version_id: UUID
    created_by: UUID
    created_at: datetime
    updated_at: datetime
    deleted: bool
    user_acl: Mapping[str, Sequence[str]]
    group_acl: Mapping[str, Sequence[str]]
    organization_name: str
    organization_display_name: str
    organization_icon: str
    created_by_name: str
    settings: TemplateSettings


@dataclass(frozen=True, slots=True)
class Percentiles:
    """How long builds take, in milliseconds."""

    p50: int | None
    p95: int | None


@dataclass(frozen=True, slots=True)
class TemplateStats:
    """How a template is used."""

    active_users: int
    build_times: Mapping[str, Percentiles]


def check_settings(settings: TemplateSettings) -> None:
    """Refuse settings that make no sense.

    Raises:
        Invalid: with one violation for each field.
    """
    found = [
        name_problem(settings.name, tag="template_name"),
        display_name_problem(settings.display_name),
        *(_ttl_problem(field, getattr(settings, field)) for field in _PLAIN_TTLS),
        *(_minute_problem(field, getattr(settings, field)) for field in _MINUTE_TTLS),
        None if 0 <= settings.autostop_weeks <= 16 else Violation("autostop_requirement.weeks", "Must be 0 to 16."),
        _choice_problem("max_port_share_level", settings.max_port_share_level, _SHARE_LEVELS),
        _choice_problem("cors_behavior", settings.cors_behavior, ("simple", "passthru")),
    ]
    violations = [violation for violation in found if violation]
    if violations:
        raise Invalid("Validation failed.", violations=violations)


_SHARE_LEVELS = ("owner", "authenticated", "organization", "public")
_PLAIN_TTLS = ("default_ttl_ms", "activity_bump_ms")
_MINUTE_TTLS = (
    "failure_ttl_ms",
    "time_til_dormant_ms",
    "time_til_dormant_autodelete_ms",
    "time_til_autostop_notify_ms",
)


def _ttl_problem(field: str, value: int) -> Violation | None:
    return Violation(field, "Must be a positive integer.") if value < 0 else None


def _minute_problem(field: str, value: int) -> Violation | None:
    if value == 0 or value >= MINUTE_MS:
        return None
    return Violation(field, "Value must be at least one minute.")


def _choice_problem(field: str, value: str, choices: Sequence[str]) -> Violation | None:
    return None if value in choices else Violation(field, f'"{value}" is not one of {", ".join(choices)}.')


@dataclass(frozen=True, slots=True)
class TemplateVersion:
    """One push of a template."""

    id: UUID
    template_id: UUID | None
    organization_id: UUID
    job_id: UUID
    name: str
    message: str
    readme: str
    created_by: UUID
    archived: bool
    has_ai_task: bool
    has_external_agent: bool
    created_at: datetime
    updated_at: datetime
    created_by_username: str
    created_by_name: str
    created_by_avatar_url: str


@dataclass(frozen=True, slots=True)
class ExternalAuthProvider:
    """A third party that a template needs its users to be signed in to."""

    id: str
    optional: bool


def check_promotion(version: TemplateVersion, job: JobStatus, template_id: UUID) -> None:
    """Refuse to make a version active that cannot be built.

    Raises:
        Invalid: it belongs to another template, or is archived.
        Forbidden: its import did not succeed.
    """
    if version.template_id != template_id:
        raise Invalid("The provided template version doesn't belong to the specified template.")
    if job is not JobStatus.SUCCEEDED:
        raise Forbidden(
            "Only versions that have been built successfully can be promoted.",
            detail=f"Attempted to promote a version with a {job} build",
        )
    if version.archived:
        raise Invalid("The provided template version is archived.")


def check_archive(version: TemplateVersion, *, archived: bool) -> None:
    """Refuse to archive what is archived, or to restore what is not.

    Raises:
        Invalid: it is in the wanted state, or has no template.
    """
    if version.archived == archived:
        word = "already archived" if archived else "already unarchived"
        raise Invalid(f"This template version is {word}.")
    if version.template_id is None:
        raise Invalid("Cannot archive template versions not associate with a template.")


class StillImporting(Conflict):
    """A template version is used whose import has not ended."""


def check_imported(job: JobStatus, error: str, *, what: str = "template") -> None:
    """Refuse to build a version that was not imported.

    Raises:
        StillImporting: the import runs.
        Invalid: the import failed or was canceled.
    """
    if job in (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.CANCELING):
        raise StillImporting(f"The provided {what} version is {job}. Wait for it to complete importing!")
    if job is JobStatus.FAILED:
        raise Invalid(
            f'The provided {what} version has failed to import: "{error}". You cannot build workspaces with it!'
        )
    if job is JobStatus.CANCELED:
        raise Invalid(f"The provided {what} version was canceled during import. You cannot build workspaces with it!")


_ADJECTIVES = (
    "able", "bold", "brave", "bright", "calm", "clever", "cosy", "deep", "eager", "fair", "fleet", "fresh", "gentle",
    "glad", "happy", "honest", "jolly", "keen", "kind", "lively", "lucky", "mellow", "merry", "neat", "noble", "proud",
    "quick", "quiet", "ready", "sharp", "steady", "swift", "tidy", "vivid", "warm", "wise",
)  # fmt: skip
_ANIMALS = (
    "badger", "beaver", "bison", "crane", "deer", "dormouse", "falcon", "ferret", "finch", "fox", "hare", "hedgehog",
    "heron", "jackdaw", "lark", "lynx", "marmot", "marten", "mole", "newt", "otter", "owl", "pika", "plover", "rabbit",
    "raven", "robin", "shrew", "squirrel", "stoat", "swallow", "thrush", "vole", "weasel", "wren", "yak",
)  # fmt: skip


def generated_name(number: int) -> str:
    """Turn a large random number into a name for a version that was given none."""
    number, adjective = divmod(number, len(_ADJECTIVES))
    number, animal = divmod(number, len(_ANIMALS))
    return f"{_ADJECTIVES[adjective]}_{_ANIMALS[animal]}{number % 100}"
