"""How the deployment is, section by section: what was measured in, a judgement with the codes that clients know out."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum


class Severity(StrEnum):
    """How bad a section is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class SectionName(StrEnum):
    """The sections of a report that may be dismissed, as clients write them."""

    DERP = "DERP"
    ACCESS_URL = "AccessURL"
    WEBSOCKET = "Websocket"
    DATABASE = "Database"
    WORKSPACE_PROXY = "WorkspaceProxy"
    PROVISIONER_DAEMONS = "ProvisionerDaemons"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something worth a warning."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the deployment; `details` are the fields that only this part has."""

    severity: Severity = Severity.OK
    warnings: Sequence[Problem] = ()
    error: str = ""
    details: Mapping[str, object] = field(default_factory=dict[str, object])
    dismissed: bool = False

    @property
    def healthy(self) -> bool:
        """Whether the part works."""
        return self.severity is not Severity.ERROR


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of asking the server for something through its access URL."""

    status: int = 0
    body: str = ""
    error: str = ""


def access_url(url: str, found: Fetched) -> Section:
    """Judge whether the server reaches itself by the URL that clients use."""
    details = {
        "access_url": url,
        "reachable": not found.error,
        "status_code": found.status,
        "healthz_response": found.body,
    }
    if found.error:
        return Section(Severity.ERROR, (), f"EACS03: get healthz endpoint: {found.error}", details)
    if found.status != 200:
        text = f"/healthz did not return 200 OK but {found.status}"
        return Section(Severity.WARNING, (Problem("EACS04", text),), "", details)
    return Section(details=details)


def websocket(found: Fetched) -> Section:
    """Judge whether a WebSocket opens through the access URL."""
    details = {"body": found.body, "code": found.status}
    if found.error:
        return Section(Severity.ERROR, (), f"EWS01: websocket dial: {found.error}", details)
    return Section(details=details)


def database(latencies: Sequence[timedelta], threshold: timedelta, error: str) -> Section:
    """Judge the database by how fast it answers."""
    latency = timedelta(seconds=statistics.median(each.total_seconds() for each in latencies)) if latencies else None
    milliseconds = round(latency.total_seconds() * 1000) if latency is not None else 0
    details = {
        "reachable": latency is not None,
        "latency": f"{latency.total_seconds() * 1000:.3f}ms" if latency is not None else "",
        "latency_ms": milliseconds,
        "threshold_ms": round(threshold.total_seconds() * 1000),
    }
    if latency is None:
        return Section(Severity.ERROR, (), f"EDB01: ping database: {error}", details)
    if latency >= threshold:
        slow = Problem("EDB02", f"database latency {details['latency']} is above {details['threshold_ms']} ms")
        return Section(Severity.WARNING, (slow,), "", details)
    return Section(details=details)


def provisioner_daemons(items: Sequence[object]) -> Section:
    """Judge whether somebody takes builds."""
    shown = [{"provisioner_daemon": item, "warnings": list[object]()} for item in items]
    details = {"items": shown}
    if not items:
        return Section(Severity.ERROR, (), "EPD01: no active provisioner daemons found", details)
    return Section(details=details)


def relays(found: Mapping[str, object], own: Sequence[str]) -> Section:
    """Take over the report on relays; `own` is what the server's own relay says of itself."""
    severity = Severity(str(found["severity"]))
    problems = tuple(Problem("EDERP02", text) for text in own)
    if problems and severity is Severity.OK:
        severity = Severity.WARNING
    given = found["warnings"]
    assert isinstance(given, list)  # `net.netcheck.derp` makes it
    # isinstance gives a list of unknown elements; they are objects with two texts
    known: list[Mapping[str, str]] = given  # pyright: ignore[reportUnknownVariableType]
    warnings = (*(Problem(each["code"], each["message"]) for each in known), *problems)
    details = {name: value for name, value in found.items() if name not in {"severity", "warnings", "dismissed"}}
    return Section(severity, warnings, "", details)


def dismiss(sections: Mapping[SectionName, Section], names: Iterable[SectionName]) -> Mapping[SectionName, Section]:
    """Mark the sections that an operator does not want to hear of."""
    dismissed = set(names)
    return {name: replace(section, dismissed=name in dismissed) for name, section in sections.items()}


def overall(sections: Iterable[Section]) -> Severity:
    """Say how the whole is: as bad as the worst section that is not dismissed."""
    order = list(Severity)
    return max((each.severity for each in sections if not each.dismissed), key=order.index, default=Severity.OK)
