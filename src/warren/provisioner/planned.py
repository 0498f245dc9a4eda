"""Read the resources out of Terraform's plan and state documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from warren.errors import Invalid
from warren.provisioner.coder_provider.values import Object, Value, blocks, text

MANAGED = "managed"


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a resource or data source, with the values that are known."""

    address: str
    mode: str
    type: str
    name: str
    values: Object

    @property
    def label(self) -> str:
        """Name it as the graph does: its address up to the first index."""
        return self.address.partition("[")[0]

    @property
    def module_path(self) -> str:
        """Name the module it is in; empty for the root."""
        own = f"data.{self.type}.{self.name}" if self.mode != MANAGED else f"{self.type}.{self.name}"
        position = self.address.rfind(own)
        return self.address[:position].rstrip(".") if position > 0 else ""


@dataclass(frozen=True, slots=True)
class Change:
    """A resource that a plan destroys and creates anew."""

    address: str
    type: str
    paths: tuple[tuple[str, ...], ...]
    before: Value
    after: Value
    after_unknown: Value
    before_sensitive: Value
    after_sensitive: Value


def from_plan(plan: bytes) -> list[Instance]:
    """Give the instances a plan foresees: data that was read already, then all that is planned.

    Managed resources of the prior state are left out: those that a stop removes would still be there.
    """
    document = _document(plan)
    prior = _root(document.get("prior_state"))
    known = [instance for instance in _walk(prior) if instance.mode != MANAGED]
    return known + list(_walk(_root({"values": document.get("planned_values")})))


def from_state_file(state: bytes) -> list[Instance]:
    """Give the instances of a state file, children of modules first, as `show` would tell them."""
    if not state.strip():
        return []
    found: list[tuple[str, Instance]] = []
    for resource in blocks(_document(state).get("resources")):
        module, mode = text(resource.get("module")), text(resource.get("mode"))
        kind, name = text(resource.get("type")), text(resource.get("name"))
        base = f"{module}." if module else ""
        base += f"{kind}.{name}" if mode == MANAGED else f"data.{kind}.{name}"
        for instance in blocks(resource.get("instances")):
            if instance.get("deposed"):
                continue
            address = base + _index(instance.get("index_key"))
            found.append((module, Instance(address, mode, kind, name, _object(instance.get("attributes")))))
    return [instance for _module, instance in sorted(found, key=lambda pair: (not pair[0], pair[1].address))]


def replacements(plan: bytes) -> list[Change]:
    """Give the resources that a plan would replace, but for the provider's own, sorted by address."""
    result: list[Change] = []
    for entry in blocks(_document(plan).get("resource_changes")):
        change = _object(entry.get("change"))
        actions = change.get("actions")
        if not isinstance(actions, list) or "delete" not in actions or "create" not in actions:
            continue
        if text(entry.get("type")).startswith("coder_"):
            continue
        result.append(
            Change(
                text(entry.get("address")),
                text(entry.get("type")),
                tuple(_paths(change.get("replace_paths"))),
                change.get("before"),
                change.get("after"),
                change.get("after_unknown"),
                change.get("before_sensitive"),
                change.get("after_sensitive"),
            )
        )
    return sorted(result, key=lambda change: change.address)


def daily_cost(instances: Iterable[Instance]) -> int:
    """Add up what the template says its resources cost a day."""
    costs = (instance.values.get("daily_cost") for instance in instances if instance.type == "coder_metadata")
    return sum(int(cost) for cost in costs if isinstance(cost, int | float))


def _document(data: bytes) -> Object:
    try:
        parsed: Value = json.loads(data)
    except ValueError as error:
        raise Invalid("terraform printed no valid JSON", detail=str(error)) from error
    return _object(parsed)


def _object(value: Value) -> Object:
    return dict(value) if isinstance(value, Mapping) else {}


def _root(state: Value) -> Object:
    return _object(_object(_object(state).get("values")).get("root_module"))


def _walk(module: Object) -> Iterator[Instance]:
    for child in blocks(module.get("child_modules")):
        yield from _walk(child)
    for resource in blocks(module.get("resources")):
        yield Instance(
            text(resource.get("address")),
            text(resource.get("mode")),
            text(resource.get("type")),
            text(resource.get("name")),
            _object(resource.get("values")),
        )


def _index(key: Value) -> str:
    if key is None:
        return ""
    return f"[{json.dumps(key, ensure_ascii=False)}]"


def _paths(value: Value) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        for path in value:
            if isinstance(path, Sequence) and not isinstance(path, str):
                yield tuple(str(step) for step in path)
