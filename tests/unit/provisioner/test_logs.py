"""What Terraform prints, as a job's log and as timings."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from warren.provisioner import logs
from warren.provisioner.model import Level, LogLine, TimingState

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def out(line: str) -> list[LogLine]:
    return list(logs.from_stdout(line, logs.parse(line)))


def err(line: str) -> list[LogLine]:
    return list(logs.from_stderr(line, logs.parse(line)))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", []),
        ("   ", []),
        ("plain", [LogLine(Level.INFO, "plain")]),
        ("{not json", [LogLine(Level.INFO, "{not json")]),
        ('{"@level":"warn","@message":"m"}', [LogLine(Level.WARN, "m")]),
        (
            '{"@level":"loud","@message":"m"}',
            [LogLine(Level.WARN, "unable to convert log level loud"), LogLine(Level.INFO, "m")],
        ),
    ],
)
def test_stdout(line: str, expected: list[LogLine]) -> None:
    assert out(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", []),
        ("broken", [LogLine(Level.ERROR, "broken")]),
        ('{"@level":"trace","@message":"m"}', []),
        ('{"@level":"info","@message":"m"}', [LogLine(Level.DEBUG, "m")]),
        ('{"@level":"error","@message":"m"}', [LogLine(Level.ERROR, "m")]),
    ],
)
def test_stderr(line: str, expected: list[LogLine]) -> None:
    assert err(line) == expected


def test_a_diagnostic_is_shown_with_its_place_and_values() -> None:
    line = json.dumps(
        {
            "@level": "error",
            "@message": "Error: Invalid value",
            "diagnostic": {
                "severity": "error",
                "summary": "Invalid value",
                "detail": "It is wrong.\nReally.",
                "range": {"filename": "main.tf", "start": {"line": 7, "column": 1}},
                "snippet": {
                    "context": 'resource "a" "b"',
                    "code": "  x = var.y\n  z = 1",
                    "start_line": 7,
                    "values": [
                        {"traversal": "var.y", "statement": 'is "1"'},
                        {"traversal": "local.a", "statement": "is true"},
                    ],
                },
            },
        }
    )
    lines = out(line)
    assert {item.level for item in lines} == {Level.ERROR}
    assert [item.output for item in lines] == [
        "Error: Invalid value",
        'on main.tf line 7, in resource "a" "b":',
        "  7:   x = var.y",
        "  8:   z = 1",
        "    ├────────────────",
        "    │ local.a is true",
        '    │ var.y is "1"',
        "",
        "It is wrong.",
        "Really.",
    ]


def test_a_diagnostic_without_source() -> None:
    diagnostic = logs.Diagnostic("error", "s", "d", logs.Range("main.tf", logs.Position(3)))
    assert list(logs.rendered(diagnostic)) == ["on main.tf line 3:", "  (source code not available)", "", "d"]


def event(kind: str, at: datetime, address: str = "x.a", action: str = "create") -> logs.Event:
    hook = logs.Hook(logs.HookResource(address, "p"), action)
    return logs.Event(type=kind, timestamp=at.isoformat(), hook=hook)


def test_starts_and_ends_are_paired() -> None:
    at = NOW + timedelta(microseconds=1)
    collector = logs.TimingCollector("apply")
    for item in (
        event("apply_start", at),
        event("apply_start", at, "x.b"),
        event("apply_start", at, "x.never_ends"),
        event("apply_complete", at + timedelta(seconds=1)),
        event("apply_errored", at + timedelta(seconds=2), "x.b"),
        event("apply_complete", at, "x.never_began"),
        event("refresh_start", at, "x.c", ""),
        event("refresh_complete", at - timedelta(seconds=9), "x.c", ""),
    ):
        collector.handle_event(item, NOW)
    timings = collector.finish(NOW, NOW + timedelta(seconds=5), failed=True)
    assert [(item.resource, item.action, item.source, item.state) for item in timings] == [
        ("x.a", "create", "p", TimingState.COMPLETED),
        ("x.b", "create", "p", TimingState.FAILED),
        ("x.c", "state refresh", "p", TimingState.COMPLETED),
        ("coder_stage_apply", "terraform", "coder", TimingState.FAILED),
    ]
    assert [item.ended_at - item.started_at for item in timings[:3]] == [
        timedelta(seconds=1),
        timedelta(seconds=2),
        timedelta(),
    ]


def test_each_step_of_init_ends_the_one_before() -> None:
    collector = logs.TimingCollector("init")
    codes = (
        "initializing_backend_message",
        "initializing_modules_message",
        "initializing_provider_plugin_message",
        "output_init_success_message",
    )
    for number, code in enumerate(codes):
        collector.handle_event(logs.Event(type="init_output", message_code=code), NOW + timedelta(seconds=number))
    timings = collector.finish(NOW, NOW, failed=False)
    assert [(item.resource, item.action) for item in timings] == [
        ("backend", "load"),
        ("modules", "load"),
        ("provider plugins", "load"),
        ("coder_stage_init", "terraform"),
    ]
