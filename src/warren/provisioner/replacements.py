"""Tell people which resources a build would destroy and create anew, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from warren.provisioner.coder_provider.values import Value
from warren.provisioner.model import Replacement
from warren.provisioner.planned import Change


def with_reasons(changes: Sequence[Change]) -> Iterator[Replacement]:
    """Give the replacements whose reason Terraform told."""
    for change in changes:
        if change.paths:
            yield Replacement(change.address, tuple(".".join(path) for path in change.paths))


def described(changes: Sequence[Change]) -> Iterator[str]:
    """Describe all replacements for the log."""
    yield "Resource replacements:"
    for change in changes:
        yield f"  -/+ {change.address} (replace)"
        if not change.paths:
            yield "      ~ replacement reason unavailable"
        for path in change.paths:
            before, after = _shown(change, change.before, path), _after(change, path)
            yield f"      ~ {'.'.join(path)}: {before} -> {after} (forces replacement)"


def _after(change: Change, path: Sequence[str]) -> str:
    if _at(change.after_unknown, path) is True:
        return "(known after apply)"
    return _shown(change, change.after, path)


def _shown(change: Change, value: Value, path: Sequence[str]) -> str:
    if _sensitive(change.before_sensitive, path) or _sensitive(change.after_sensitive, path):
        return "(sensitive value)"
    found = _at(value, path)
    return "(unavailable)" if found is _MISSING else json.dumps(found, default=str)


def _sensitive(marks: Value, path: Sequence[str]) -> bool:
    """Tell whether the value at `path`, or something it is a part of, is sensitive."""
    return any(_at(marks, path[:length]) is True for length in range(len(path) + 1))


_MISSING = "\0missing"


def _at(value: Value, path: Sequence[str]) -> Value:
    for step in path:
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, Sequence) and not isinstance(value, str) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _MISSING
    return value
