"""Find the agents, apps, parameters and so on in what Terraform planned or made.

An agent belongs to the nearest resource that depends on it, found in Terraform's graph; all else belongs to its agent
by the agent's ID or, while that is not known yet, by the graph too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from warren.errors import Invalid
from warren.provisioner import read_blocks
from warren.provisioner.coder_provider.values import blocks, number, text, truth
from warren.provisioner.graph import Graph
from warren.provisioner.model import (
    Agent,
    AITask,
    App,
    Devcontainer,
    ExternalAuth,
    Found,
    InstanceAuth,
    MetadataItem,
    Preset,
    Resource,
    RichParameter,
    TokenAuth,
)
from warren.provisioner.planned import MANAGED, Instance

AGENT_NAME = re.compile(r"(?i)[a-z0-9](-?[a-z0-9])*")
SLUG = re.compile(r"[a-z0-9](-?[a-z0-9])*")
_AGENT_NAME_TEXT = r"(?i)^[a-z0-9](-?[a-z0-9])*$"
_SLUG_TEXT = r"^[a-z0-9](-?[a-z0-9])*$"
_EXTERNAL_AGENT = "coder_external_agent"

# These appear as part of an agent or of another resource, never by themselves.
_HIDDEN = frozenset({"coder_script", "coder_agent", "coder_agent_instance", "coder_app", "coder_metadata"})
# Where a cloud tells the ID and the size of an instance.
_CLOUDS: Mapping[str, tuple[str, str]] = {
    "google_compute_instance": ("instance_id", "machine_type"),
    "aws_instance": ("id", "instance_type"),
    "aws_spot_instance_request": ("spot_instance_id", "instance_type"),
    "azurerm_linux_virtual_machine": ("virtual_machine_id", "size"),
    "azurerm_windows_virtual_machine": ("virtual_machine_id", "size"),
}


def convert(instances: Sequence[Instance], graph: Graph) -> Found:
    """Find everything a workspace consists of.

    Raises:
        Invalid: names clash or are malformed, or the graph and the instances do not fit together.
    """
    return _Conversion(instances, graph).run()


def duplicates_message(names: Sequence[str]) -> str | None:
    """Say which names of parameters appear more than once, if any do."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if not twice:
        return None
    quoted = [f'"{name}"' for name in twice]
    listed = quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
    return f"coder_parameter names must be unique but {listed} appear{'s' if len(quoted) == 1 else ''} multiple times"


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a `coder_metadata` says of the resources with one label."""

    items: tuple[MetadataItem, ...]
    hide: bool
    icon: str
    daily_cost: int


class _Conversion:
    """One conversion; holds what its steps share."""

    def __init__(self, instances: Sequence[Instance], graph: Graph) -> None:
        self._instances = instances
        self._graph = graph
        self._managed = sorted((item for item in instances if item.mode == MANAGED), key=lambda item: item.address)
        self._hosts = {
            item.label for item in self._managed if not item.type.startswith("coder_") or item.type == _EXTERNAL_AGENT
        }
        self._warnings: list[str] = []

    def run(self) -> Found:
        by_label = self._agents()
        facts = self._facts()
        return Found(
            resources=tuple(self._resources(by_label, facts)),
            parameters=self._parameters(),
            presets=self._presets(),
            external_auth=self._external_auth(),
            ai_tasks=tuple(self._ai_tasks()),
            has_external_agents=any(
                label.startswith(f"{_EXTERNAL_AGENT}.") or f".{_EXTERNAL_AGENT}." in label
                for label in self._graph.labels.values()
            ),
            warnings=tuple(self._warnings),
        )

    def _of_type(self, kind: str) -> Iterator[Instance]:
        return (item for item in self._managed if item.type == kind)

    def _agents(self) -> dict[str, list[Agent]]:
        """Give the agents by the label of the resource that runs them; those without one are left out."""
        by_label: dict[str, list[Agent]] = defaultdict(list)
        names: set[str] = set()
        for item in self._of_type("coder_agent"):
            _check_agent_name(item.name, names)
            node = self._graph.find(item.label)
            if node is None:
                raise Invalid(f'couldn\'t find node on graph: "{item.label}"')
            host = self._graph.nearest(node, self._hosts, upwards=True)
            if host is not None:
                by_label[host].append(read_blocks.agent(item))
        return self._with_children(by_label)

    def _with_children(self, by_label: Mapping[str, Sequence[Agent]]) -> dict[str, list[Agent]]:
        slugs: set[str] = set()
        return {label: [self._complete(agent, slugs) for agent in agents] for label, agents in by_label.items()}

    def _complete(self, agent: Agent, slugs: set[str]) -> Agent:
        auth = agent.auth
        if isinstance(auth, InstanceAuth):
            for item in self._children(agent, "coder_agent_instance"):
                auth = InstanceAuth(text(item.values.get("instance_id")))
        return replace(
            agent,
            auth=auth,
            devcontainers=tuple(
                self._devcontainer(item, slugs) for item in self._children(agent, "coder_devcontainer")
            ),
            apps=tuple(self._app(item, slugs) for item in self._children(agent, "coder_app")),
            extra_envs=tuple(read_blocks.env(item) for item in self._children(agent, "coder_env")),
            scripts=agent.scripts + tuple(read_blocks.script(item) for item in self._children(agent, "coder_script")),
        )

    def _devcontainer(self, item: Instance, slugs: set[str]) -> Devcontainer:
        container = read_blocks.devcontainer(item)

        def children(kind: str) -> list[Instance]:
            return [child for child in self._of_type(kind) if self._inside(container, child)]

        return replace(
            container,
            apps=tuple(self._app(child, slugs) for child in children("coder_app")),
            scripts=tuple(read_blocks.script(child) for child in children("coder_script")),
            envs=tuple(read_blocks.env(child) for child in children("coder_env")),
        )

    def _children(self, agent: Agent, kind: str) -> list[Instance]:
        return [item for item in self._of_type(kind) if self._depends(agent.id, "coder_agent", agent.name, item)]

    def _inside(self, container: Devcontainer, child: Instance) -> bool:
        return self._depends(container.subagent_id, "coder_devcontainer", container.name, child)

    def _depends(self, parent_id: str, parent_type: str, parent_name: str, child: Instance) -> bool:
        child_of = text(child.values.get("agent_id"))
        if parent_id or child_of:
            return parent_id == child_of
        return self._graph.edge(f"] {child.type}.{child.name} (expand)", f"] {parent_type}.{parent_name} (expand)")

    def _app(self, item: Instance, slugs: set[str]) -> App:
        app = read_blocks.app(item)
        if not SLUG.fullmatch(app.slug):
            raise Invalid(f'app slug "{app.slug}" does not match regex "{_SLUG_TEXT}"')
        if app.slug in slugs:
            raise Invalid(f'duplicate app slug, they must be unique per template: "{app.slug}"')
        slugs.add(app.slug)
        if app.id:
            return app
        # A plan has no IDs yet, and who stores it needs one.
        return replace(app, id=str(uuid4()))

    def _facts(self) -> dict[str, _Facts]:
        """Give what `coder_metadata` says, by the label it is about: the nearest that it depends on."""
        facts: dict[str, _Facts] = {}
        for item in self._of_type("coder_metadata"):
            node = self._graph.find(item.label)
            target = None if node is None else self._graph.nearest(node, self._hosts, upwards=False)
            if target is None:
                continue
            if target in facts:
                raise Invalid(f"duplicate metadata resource: {target}")
            facts[target] = _Facts(
                tuple(read_blocks.metadata_items(item)),
                truth(item.values.get("hide")),
                text(item.values.get("icon")),
                number(item.values.get("daily_cost")),
            )
        return facts

    def _resources(self, agents: Mapping[str, Sequence[Agent]], facts: Mapping[str, _Facts]) -> Iterator[Resource]:
        nothing = _Facts((), hide=False, icon="", daily_cost=0)
        for item in self._managed:
            if item.type in _HIDDEN:
                continue
            known = facts.get(item.label, nothing)
            id_name, size_name = _CLOUDS.get(item.type, ("", ""))
            instance_id = text(item.values.get(id_name)) if id_name else ""
            yield Resource(
                name=item.name,
                type=item.type,
                agents=tuple(_identified(agent, instance_id) for agent in agents.get(item.label, ())),
                metadata=known.items,
                hide=known.hide,
                icon=known.icon,
                instance_type=text(item.values.get(size_name)) if size_name else "",
                daily_cost=known.daily_cost,
                module_path=item.module_path,
            )

    def _parameters(self) -> tuple[RichParameter, ...]:
        found = [read_blocks.parameter(item) for item in self._instances if item.type == "coder_parameter"]
        problem = duplicates_message([parameter.name for parameter in found])
        if problem is not None:
            raise Invalid(problem)
        return tuple(found)

    def _presets(self) -> tuple[Preset, ...]:
        found = [read_blocks.preset(item) for item in self._instances if item.type == "coder_workspace_preset"]
        defaults = sum(preset.default for preset in found)
        if defaults > 1:
            raise Invalid(f"a maximum of 1 coder_workspace_preset can be marked as default, but {defaults} are set")
        names = {text(item.values.get("name")) for item in self._instances if item.type == "coder_parameter"}
        for preset in found:
            unknown = sorted(set(preset.parameters) - names)
            if unknown:
                self._warnings.append(f"coder_workspace_preset {preset.name} refers to unknown parameters {unknown}")
        return tuple(found)

    def _external_auth(self) -> tuple[ExternalAuth, ...]:
        found: dict[str, ExternalAuth] = {}
        for kind in ("coder_git_auth", "coder_external_auth"):
            for item in self._instances:
                if item.type == kind:
                    name = item.values.get("id")
                    if not isinstance(name, str):
                        raise Invalid("external auth id is not a string")
                    found[name] = ExternalAuth(name, truth(item.values.get("optional")))
        return tuple(found[name] for name in sorted(found))

    def _ai_tasks(self) -> Iterator[AITask]:
        for item in self._instances:
            if item.type == "coder_ai_task":
                sidebar = blocks(item.values.get("sidebar_app"))
                sidebar_id = text(sidebar[0].get("id")) if sidebar else ""
                app_id = text(item.values.get("app_id")) or sidebar_id
                yield AITask(text(item.values.get("id")), app_id, sidebar_id)


def _check_agent_name(name: str, taken: set[str]) -> None:
    if not name:
        raise Invalid("agent name cannot be empty")
    if not AGENT_NAME.fullmatch(name):
        if "_" in name:
            raise Invalid(
                f'agent name "{name}" contains underscores which are no longer supported, please use hyphens instead '
                f'(regex: "{_AGENT_NAME_TEXT}")'
            )
        raise Invalid(f'agent name "{name}" does not match regex "{_AGENT_NAME_TEXT}"')
    if name.lower() in taken:
        raise Invalid(f"duplicate agent name: {name}")
    taken.add(name.lower())


def _identified(agent: Agent, instance_id: str) -> Agent:
    """Give the agent its cloud's instance ID, if it proves itself by one and has none yet."""
    if instance_id and isinstance(agent.auth, InstanceAuth) and not agent.auth.instance_id:
        return replace(agent, auth=InstanceAuth(instance_id))
    assert isinstance(agent.auth, TokenAuth | InstanceAuth)
    return agent
