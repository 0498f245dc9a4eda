"""`warren netlab`, as an operator runs it."""

import json
import subprocess
import sys

import pytest

from warren.netlab import namespace

missing = namespace.missing()
needs_namespaces = pytest.mark.skipif(bool(missing), reason=missing)


def _warren(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "warren", "netlab", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_scenarios_are_listed() -> None:
    listed = json.loads(_warren("list", "--output", "json").stdout)
    summaries = {entry["name"]: entry["summary"] for entry in listed}
    assert summaries["easy+easy"] == "direct: each side's endpoint is known and both send first"
    assert "same-lan" in summaries
    assert _warren("list").stdout.splitlines()[0].split() == ["NAME", "SUMMARY"]


@needs_namespaces
def test_a_scenario_is_a_row_of_a_table() -> None:
    ran = _warren("run", "same-lan")
    assert ran.returncode == 0, ran.stderr
    heading, row = ran.stdout.splitlines()
    assert heading.startswith("SCENARIO ")
    assert row.split()[:3] == ["same-lan", "direct", "direct"]
    assert ran.stderr.strip() == "1 of 1 as expected"


@needs_namespaces
def test_several_are_a_list_of_objects() -> None:
    ran = _warren("run", "hard+public", "v6-only+v6-only", "--jobs", "2", "--output", "json", "--delay", "5ms")
    assert ran.returncode == 0, ran.stderr
    reports = json.loads(ran.stdout)
    assert [report["scenario"] for report in reports] == ["public+hard", "v6-only+v6-only"]
    assert all(report["got"] == "direct" and not report.get("problems") for report in reports)


@needs_namespaces
def test_a_name_that_is_none_is_refused_with_what_to_do() -> None:
    ran = _warren("run", "easy+peasy")
    assert ran.returncode == 1
    assert "no scenario `easy+peasy`" in ran.stderr
    assert "warren netlab list" in ran.stderr


@needs_namespaces
def test_nothing_is_left_behind() -> None:
    def links() -> str:
        return subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout

    before = links()
    _warren("run", "easy+easy")
    assert links() == before
