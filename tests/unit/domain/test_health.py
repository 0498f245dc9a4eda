"""Each part's judgement, and the whole."""

from datetime import timedelta

from warren.domain import health
from warren.domain.health import Fetched, Problem, Section, SectionName, Severity

URL = "https://warren.example.com"
SLOW, FAST = timedelta(milliseconds=40), timedelta(milliseconds=2)
LIMIT = timedelta(milliseconds=15)


def test_the_access_url() -> None:
    assert health.access_url(URL, Fetched(200, "OK")).severity is Severity.OK
    odd = health.access_url(URL, Fetched(404, "?"))
    assert (odd.severity, odd.warnings[0].code, odd.healthy) == (Severity.WARNING, "EACS04", True)
    away = health.access_url(URL, Fetched(error="refused"))
    assert (away.severity, away.error) == (Severity.ERROR, "EACS03: get healthz endpoint: refused")
    assert away.details["reachable"] is False


def test_the_database_is_judged_by_its_median() -> None:
    assert health.database([FAST, FAST, SLOW], LIMIT, "").severity is Severity.OK
    slow = health.database([FAST, SLOW, SLOW], LIMIT, "")
    assert (slow.severity, slow.warnings[0].code, slow.details["latency_ms"]) == (Severity.WARNING, "EDB02", 40)
    away = health.database([], LIMIT, "away")
    assert (away.severity, away.error) == (Severity.ERROR, "EDB01: ping database: away")


def test_what_the_relay_says_of_itself_is_a_warning() -> None:
    found: dict[str, object] = {"severity": "ok", "warnings": [], "dismissed": False, "healthy": True, "regions": {}}
    assert health.relays(found, ()).severity is Severity.OK
    unwell = health.relays(found, ["the relay does not answer"])
    assert unwell.severity is Severity.WARNING
    assert unwell.warnings == (Problem("EDERP02", "the relay does not answer"),)
    assert unwell.details == {"healthy": True, "regions": {}}
    assert health.relays({**found, "severity": "error"}, ["it"]).severity is Severity.ERROR


def test_the_whole_is_as_bad_as_the_worst_that_is_not_dismissed() -> None:
    sections = {
        SectionName.DATABASE: Section(Severity.WARNING),
        SectionName.PROVISIONER_DAEMONS: health.provisioner_daemons([]),
    }
    assert health.overall(sections.values()) is Severity.ERROR
    dismissed = health.dismiss(sections, [SectionName.PROVISIONER_DAEMONS])
    assert health.overall(dismissed.values()) is Severity.WARNING
    assert health.overall([]) is Severity.OK
    assert health.websocket(Fetched(101)).severity is Severity.OK
