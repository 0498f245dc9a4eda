"""The search language: `owner:me status:running dev`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from warren.errors import Invalid, Violation

_T = TypeVar("_T")
_BOOLS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


@dataclass(slots=True)
class Terms:
    """The terms of one query; each `take` reads a key, `finish` complains about what is wrong or left."""

    kind: str
    values: dict[str, list[str]]
    violations: list[Violation] = field(default_factory=list[Violation])

    def take(self, key: str) -> str:
        """Read the last value of a key; empty when it is not there."""
        return self.values.pop(key, [""])[-1]

    def take_list(self, key: str) -> list[str]:
        """Read all values of a key; commas separate them too."""
        return [part for value in self.values.pop(key, []) for part in value.split(",") if part]

    def take_bool(self, key: str) -> bool | None:
        """Read a truth value."""
        return self._parse(key, lambda text: _BOOLS[text], "must be a valid boolean")

    def take_uuid(self, key: str) -> UUID | None:
        """Read an id."""
        return self._parse(key, UUID, "must be a valid uuid")

    def take_time(self, key: str) -> datetime | None:
        """Read an RFC 3339 time."""
        return self._parse(key, _time, "must be a valid date format")

    def take_choice(self, key: str, choices: Sequence[str]) -> list[str]:
        """Read values that must be among `choices`."""
        found = self.take_list(key)
        for value in found:
            if value not in choices:
                text = f'Query param "{key}" has invalid values: "{value}" is not one of {", ".join(choices)}'
                self.violations.append(Violation(key, text))
        return found

    def finish(self) -> None:
        """Refuse the query if a value was bad, or a key is unknown.

        Raises:
            Invalid: with one violation for each problem.
        """
        unknown = [Violation(key, f'"{key}" is not a valid query param') for key in sorted(self.values)]
        if self.violations or unknown:
            raise Invalid(f"Invalid {self.kind} search query.", violations=[*self.violations, *unknown])

    def _parse(self, key: str, read: Callable[[str], _T], complaint: str) -> _T | None:
        text = self.take(key)
        if not text:
            return None
        try:
            return read(text)
        except (KeyError, ValueError):
            self.violations.append(Violation(key, f'Query param "{key}" {complaint}'))
            return None


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text.upper())
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment


def parse(query: str, *, kind: str, default: str) -> Terms:
    """Cut a query into terms; bare words become one value of the key `default`.

    Raises:
        Invalid: a term has a colon too many or in the wrong place.
    """
    terms = Terms(kind, {})
    bare: list[str] = []
    for token in _tokens(query.lower()):
        key, colon, value = _split(token)
        plain = value.replace('"', "")
        if not colon:
            bare.append(key.replace('"', ""))
        elif not key or not plain:
            text = f'Query element "{token}" cannot start or end with ":"'
            terms.violations.append(Violation("q", text))
        elif ":" in _unquoted(value):
            text = f'Query element "{token}" can only contain 1 ":"'
            terms.violations.append(Violation("q", text))
        else:
            terms.values.setdefault(key, []).append(plain)
    if bare:
        if default:
            terms.values.setdefault(default, []).append(" ".join(bare))
        else:
            terms.violations.append(Violation("q", f'Query element "{bare[0]}" has no key'))
    return terms


def _tokens(query: str) -> Sequence[str]:
    tokens: list[str] = []
    current, quoted = "", False
    for char in query:
        if char == '"':
            quoted = not quoted
        if char == " " and not quoted:
            tokens.append(current)
            current = ""
        else:
            current += char
    tokens.append(current)
    return [token for token in tokens if token]


def _split(token: str) -> tuple[str, str, str]:
    return (token, "", "") if token.startswith('"') else token.partition(":")


def _unquoted(text: str) -> str:
    """Leave out what stands between quotes."""
    return "".join(part for number, part in enumerate(text.split('"')) if number % 2 == 0)


AGENT_STATUSES = ("connected", "connecting", "disconnected", "timeout")
WORKSPACE_STATUSES = (
    "pending", "starting", "running", "stopping", "stopped",
    "failed", "canceling", "canceled", "deleting", "deleted",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ParameterFilter:
    """A parameter that the latest build has; with `value`, that value."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class WorkspaceFilter:
    """Which workspaces are wanted."""

    ids: Sequence[UUID] = ()
    owner: str = ""
    template: str = ""
    name: str = ""
    status: str = ""
    agent_statuses: Sequence[str] = ()
    dormant: bool = False
    last_used_after: datetime | None = None
    last_used_before: datetime | None = None
    outdated: bool | None = None
    organization: str = ""
    has_ai_task: bool | None = None
    has_external_agent: bool | None = None
    shared: bool | None = None
    shared_with_user: str = ""
    shared_with_group: str = ""
    parameters: Sequence[ParameterFilter] = ()


def workspace_filter(query: str) -> WorkspaceFilter:
    """Read a query for workspaces.

    Raises:
        Invalid: it does not follow the language.
    """
    query, parameters = _take_parameters(query)
    terms = parse(query, kind="workspace", default="name")
    if "user" in terms.values:
        terms.values.setdefault("owner", []).extend(terms.values.pop("user"))
    owner, name = terms.take("owner"), terms.take("name")
    if "/" in name:
        slash_owner, _, name = name.partition("/")
        owner = owner or slash_owner
    statuses = terms.take_choice("status", WORKSPACE_STATUSES)
    ids = tuple(identifier for text in terms.take_list("id") if (identifier := _uuid(terms, "id", text)))
    found = WorkspaceFilter(
        ids=ids,
        owner=owner,
        template=terms.take("template"),
        name=name,
        status=statuses[-1] if statuses else "",
        agent_statuses=_agent_statuses(terms),
        dormant=bool(terms.take_bool("dormant")),
        last_used_after=terms.take_time("last_used_after"),
        last_used_before=terms.take_time("last_used_before"),
        outdated=terms.take_bool("outdated"),
        organization=terms.take("organization"),
        has_ai_task=terms.take_bool("has-ai-task"),
        has_external_agent=terms.take_bool("has_external_agent"),
        shared=terms.take_bool("shared"),
        shared_with_user=terms.take("shared_with_user"),
        shared_with_group=terms.take("shared_with_group"),
        parameters=parameters,
    )
    terms.finish()
    return found


def _agent_statuses(terms: Terms) -> Sequence[str]:
    wanted = tuple(terms.take_choice("has-agent", AGENT_STATUSES))
    healthy = terms.take_bool("healthy")
    if healthy is None:
        return wanted
    return ("connected",) if healthy else ("disconnected", "timeout")


def _uuid(terms: Terms, key: str, text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        terms.violations.append(Violation(key, f'Query param "{key}" has invalid values: invalid UUID "{text}"'))
        return None


def _take_parameters(query: str) -> tuple[str, Sequence[ParameterFilter]]:
    # Names and values of parameters keep their case, unlike everything else.
    kept: list[str] = []
    found: list[ParameterFilter] = []
    for token in _tokens(query):
        if token.lower().startswith("param:"):
            name, equals, value = token[len("param:") :].replace('"', "").partition("=")
            found.append(ParameterFilter(name, value if equals else None))
        else:
            kept.append(token)
    return " ".join(kept), tuple(found)


@dataclass(frozen=True, slots=True)
class TemplateFilter:
    """Which templates are wanted."""

    deleted: bool = False
    organization: str = ""
    exact_name: str = ""
    exact_display_name: str = ""
    name: str = ""
    display_name: str = ""
    ids: Sequence[UUID] = ()
    deprecated: bool | None = None
    author: str = ""
    author_id: UUID | None = None
    has_ai_task: bool | None = None
    has_external_agent: bool | None = None


def template_filter(query: str) -> TemplateFilter:
    """Read a query for templates.

    Raises:
        Invalid: it does not follow the language.
    """
    terms = parse(query, kind="template", default="display_name")
    found = TemplateFilter(
        deleted=bool(terms.take_bool("deleted")),
        organization=terms.take("organization"),
        exact_name=terms.take("exact_name"),
        exact_display_name=terms.take("exact_display_name"),
        name=terms.take("name"),
        display_name=terms.take("display_name"),
        ids=tuple(identifier for text in terms.take_list("ids") if (identifier := _uuid(terms, "ids", text))),
        deprecated=terms.take_bool("deprecated"),
        author=terms.take("author"),
        author_id=terms.take_uuid("author_id"),
        has_ai_task=terms.take_bool("has-ai-task"),
        has_external_agent=terms.take_bool("has_external_agent"),
    )
    terms.finish()
    return found
