"""From Terraform's values and graph to agents, apps and so on: the situations that templates bring about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pytest

from warren.errors import Invalid
from warren.provisioner.coder_provider.values import Value
from warren.provisioner.graph import Graph
from warren.provisioner.model import AppWindow, Found, InstanceAuth, Script, Sharing, TokenAuth
from warren.provisioner.planned import Instance
from warren.provisioner.resources import convert, duplicates_message


def data(address: str, **values: Value) -> Instance:
    kind, name = address.split(".")
    return Instance(f"data.{address}", "data", kind, name, values)


def instance(address: str, **values: Value) -> Instance:
    kind, name = re.sub(r"\[[^]]*\]$", "", address).split(".")[-2:]
    return Instance(address, "managed", kind, name, values)


def graph(*edges: str) -> Graph:
    """Make a graph from `dependent -> dependency` lines of labels."""
    lines = ["digraph {"]
    names: dict[str, str] = {}
    for edge in edges:
        for label in edge.split(" -> "):
            names[label] = f"[root] {label} (expand)"
    lines += [f'\t\t"{name}" [label = "{label}", shape = "box"]' for label, name in names.items()]
    for edge in edges:
        ends = edge.split(" -> ")
        if len(ends) == 2:
            lines.append(f'\t\t"{names[ends[0]]}" -> "{names[ends[1]]}"')
    lines.append('\t\t"[root] root" -> "[root] provider[\\"x\\"] (close)"')
    return Graph.parse("\n".join(lines))


def agents(found: Found) -> Mapping[str, list[str]]:
    return {item.name: [agent.name for agent in item.agents] for item in found.resources}


def found_of(instances: Iterable[Instance], *edges: str) -> Found:
    return convert(list(instances), graph(*edges))


def test_an_agent_belongs_to_the_nearest_resource() -> None:
    found = found_of(
        [instance("coder_agent.main", id="i"), instance("x.a"), instance("x.b")],
        "x.b -> coder_agent.main",
        "x.a -> x.b",
    )
    assert agents(found) == {"a": [], "b": ["main"]}


def test_of_two_equally_near_resources_the_smaller_label_wins() -> None:
    found = found_of(
        [instance("coder_agent.main", id="i"), instance("x.second"), instance("x.first")],
        "x.second -> coder_agent.main",
        "x.first -> coder_agent.main",
    )
    assert agents(found) == {"first": ["main"], "second": []}


def test_what_stands_between_does_not_matter() -> None:
    found = found_of(
        [instance("coder_agent.main", id="i"), instance("x.host"), instance("coder_app.a", agent_id="i", slug="a")],
        "coder_app.a -> coder_agent.main",
        "local.script -> coder_agent.main",
        "x.host -> local.script",
    )
    assert agents(found) == {"host": ["main"]}
    assert [app.slug for app in found.resources[0].agents[0].apps] == ["a"]


def test_an_agent_without_a_resource_is_left_out() -> None:
    found = found_of(
        [instance("coder_agent.main", id="i"), instance("coder_env.e", agent_id="i", name="A", value="1")],
        "coder_env.e -> coder_agent.main",
    )
    assert agents(found) == {"e": []}


def test_an_external_agent_is_a_resource_for_agents() -> None:
    found = found_of(
        [instance("coder_agent.main", id="i"), instance("coder_external_agent.x", agent_id="i")],
        "coder_external_agent.x -> coder_agent.main",
    )
    assert agents(found) == {"x": ["main"]}
    assert found.has_external_agents


def test_instances_of_a_resource_share_its_agents_and_facts() -> None:
    found = found_of(
        [
            instance("coder_agent.main", id="i"),
            instance("x.host[0]"),
            instance("x.host[1]"),
            instance("coder_metadata.m", hide=True, icon="/i", daily_cost=2, item=[{"key": "k", "value": "v"}]),
        ],
        "x.host -> coder_agent.main",
        "coder_metadata.m -> x.host",
    )
    assert [[agent.name for agent in item.agents] for item in found.resources] == [["main"], ["main"]]
    assert [(item.hide, item.icon, item.daily_cost) for item in found.resources] == [(True, "/i", 2)] * 2


def test_two_metadata_of_one_resource_clash() -> None:
    instances = [instance("x.a"), instance("coder_metadata.m"), instance("coder_metadata.n")]
    with pytest.raises(Invalid, match=r"duplicate metadata resource: x\.a"):
        found_of(instances, "coder_metadata.m -> x.a", "coder_metadata.n -> x.a")


def test_children_go_to_their_agents() -> None:
    found = found_of(
        [
            instance("coder_agent.one", id="1", startup_script="up", startup_script_behavior="blocking"),
            instance("coder_agent.two", id="2", login_before_ready=False, startup_script="up"),
            instance("x.host"),
            instance("coder_app.a", id="app", agent_id="1", slug="a", share="PUBLIC", open_in="tab", name="Old"),
            instance('coder_app.b["k"]', id="appb", agent_id="2", slug="b", share="nobody", healthcheck=[{"url": "u"}]),
            instance("coder_app.lost", agent_id="9", slug="lost"),
            instance("coder_script.s", agent_id="2", display_name="S", script="x", cron="c", timeout=3),
            instance("coder_env.e2", agent_id="1", name="A", value="2", merge_strategy="append"),
            instance("coder_env.e1", agent_id="1", name="A", value="1", merge_strategy="prepend"),
        ],
        "x.host -> coder_agent.one",
        "x.host -> coder_agent.two",
    )
    one, two = found.resources[-1].agents
    assert [(app.slug, app.sharing, app.open_in, app.display_name) for app in one.apps] == [
        ("a", Sharing.PUBLIC, AppWindow.TAB, "Old")
    ]
    assert [(app.slug, app.sharing, app.open_in, app.display_name) for app in two.apps] == [
        ("b", Sharing.OWNER, AppWindow.SLIM_WINDOW, "b")
    ]
    assert [(env.value, env.merge_strategy) for env in one.extra_envs] == [("1", "prepend"), ("2", "append")]
    assert [script.start_blocks_login for script in one.scripts] == [True]
    assert two.scripts[0].start_blocks_login
    assert two.scripts[1] == Script("S", "x", cron="c", timeout_seconds=3)


def test_a_plan_has_no_ids_and_the_graph_tells() -> None:
    found = found_of(
        [
            instance("coder_agent.one"),
            instance("coder_agent.two"),
            instance("x.host"),
            instance("coder_app.a", slug="a"),
            instance("module.m.coder_app.b", slug="b"),
        ],
        "x.host -> coder_agent.one",
        "x.host -> coder_agent.two",
        "coder_app.a -> coder_agent.two",
    )
    one, two = found.resources[0].agents
    assert [app.slug for app in one.apps] == []
    assert [app.slug for app in two.apps] == ["a"]
    assert two.apps[0].id


def test_what_runs_in_a_devcontainer_belongs_to_it() -> None:
    found = found_of(
        [
            instance("coder_agent.main", id="1"),
            instance("x.host"),
            instance("coder_devcontainer.dc", id="d", agent_id="1", subagent_id="s", workspace_folder="/w"),
            instance("coder_app.a", id="a", agent_id="s", slug="a"),
            instance("coder_script.s", agent_id="s", script="x"),
            instance("coder_env.e", agent_id="s", name="N", value="v"),
        ],
        "x.host -> coder_agent.main",
    )
    agent = found.resources[-1].agents[0]
    container = agent.devcontainers[0]
    assert (container.name, container.workspace_folder, container.subagent_id) == ("dc", "/w", "s")
    assert ([app.slug for app in container.apps], len(container.scripts), len(container.envs)) == (["a"], 1, 1)
    assert not agent.apps


@pytest.mark.parametrize(
    ("kind", "values", "instance_id", "size"),
    [
        ("google_compute_instance", {"instance_id": "g", "machine_type": "e2"}, "g", "e2"),
        ("aws_instance", {"id": "a", "instance_type": "t3"}, "a", "t3"),
        ("aws_spot_instance_request", {"spot_instance_id": "s", "instance_type": "t3"}, "s", "t3"),
        ("azurerm_linux_virtual_machine", {"virtual_machine_id": "v", "size": "B1"}, "v", "B1"),
    ],
)
def test_clouds_tell_the_instance(kind: str, values: dict[str, Value], instance_id: str, size: str) -> None:
    found = found_of(
        [
            instance("coder_agent.cloud", id="1", auth="aws-instance-identity", token="unused"),
            instance("coder_agent.token", id="2", auth="token", token="t"),
            instance(f"{kind}.vm", **values),
        ],
        f"{kind}.vm -> coder_agent.cloud",
        f"{kind}.vm -> coder_agent.token",
    )
    vm = found.resources[0]
    assert vm.instance_type == size
    assert [agent.auth for agent in vm.agents] == [InstanceAuth(instance_id), TokenAuth("t")]


def test_an_agent_instance_comes_before_the_cloud() -> None:
    found = found_of(
        [
            instance("coder_agent.cloud", id="1", auth="aws-instance-identity"),
            instance("coder_agent_instance.x", agent_id="1", instance_id="told"),
            instance("aws_instance.vm", id="seen"),
        ],
        "aws_instance.vm -> coder_agent.cloud",
    )
    assert found.resources[0].agents[0].auth == InstanceAuth("told")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a_b"], 'agent name "a_b" contains underscores which are no longer supported, please use hyphens instead'),
        (["a--b"], 'agent name "a--b" does not match regex "(?i)^[a-z0-9](-?[a-z0-9])*$"'),
        (["Main", "main"], "duplicate agent name: main"),
    ],
)
def test_agent_names(names: list[str], message: str) -> None:
    with pytest.raises(Invalid) as raised:
        found_of([instance(f"coder_agent.{name}") for name in names], *[f"coder_agent.{name}" for name in names])
    assert raised.value.message.startswith(message)


@pytest.mark.parametrize(
    ("slugs", "message"),
    [
        (["Bad"], 'app slug "Bad" does not match regex "^[a-z0-9](-?[a-z0-9])*$"'),
        (["a", "a"], 'duplicate app slug, they must be unique per template: "a"'),
    ],
)
def test_slugs(slugs: list[str], message: str) -> None:
    apps = [instance(f"coder_app.x{number}", agent_id="1", slug=slug) for number, slug in enumerate(slugs)]
    with pytest.raises(Invalid) as raised:
        found_of([instance("coder_agent.main", id="1"), instance("x.host"), *apps], "x.host -> coder_agent.main")
    assert raised.value.message == message


def test_an_agent_that_the_graph_does_not_know() -> None:
    with pytest.raises(Invalid, match=r"couldn't find node on graph: \"module\.m\""):
        found_of([instance("module.m[0].coder_agent.main")], "x.a")


def test_module_paths() -> None:
    found = found_of([instance("module.a.module.b.x.y"), instance("x.z")], "x.z")
    assert [item.module_path for item in found.resources] == ["module.a.module.b", ""]


def test_parameters_and_their_bounds() -> None:
    def parameter(name: str, **rule: Value) -> Instance:
        return data(f"coder_parameter.{name}", name=name, type="number", validation=[rule])

    found = found_of(
        [
            parameter("set", min=0, max=5, min_disabled=False, max_disabled=True),
            parameter("old", min=1, max=5),
            parameter("old_unset", min=0, max=0),
        ]
    )
    assert [(item.validation_min, item.validation_max) for item in found.parameters] == [
        (0, None),
        (1, 5),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], None),
        (["a", "a"], 'coder_parameter names must be unique but "a" appears multiple times'),
        (
            ["c", "a", "b", "a", "b", "c"],
            'coder_parameter names must be unique but "a", "b" and "c" appear multiple times',
        ),
    ],
)
def test_duplicate_parameters(names: list[str], message: str | None) -> None:
    assert duplicates_message(names) == message


def test_presets() -> None:
    found = found_of(
        [
            data("coder_workspace_preset.a", name="A", default=True, parameters={"x": "1"}),
            data(
                "coder_workspace_preset.b",
                name="B",
                prebuilds=[{"instances": 2**40, "expiration_policy": [{"ttl": 60}]}],
            ),
        ]
    )
    assert [(item.name, item.default, item.prebuild.instances) for item in found.presets] == [
        ("A", True, 0),
        ("B", False, 2**31 - 1),
    ]
    assert "unknown parameters ['x']" in found.warnings[0]
    two = [data(f"coder_workspace_preset.{name}", name=name, default=True) for name in "ab"]
    with pytest.raises(Invalid, match="a maximum of 1 coder_workspace_preset can be marked as default, but 2 are set"):
        found_of(two)


def test_external_auth_of_both_generations() -> None:
    found = found_of(
        [
            data("coder_external_auth.b", id="b", optional=True),
            data("coder_git_auth.b", id="b"),
            data("coder_git_auth.a", id="a"),
        ]
    )
    assert [(item.id, item.optional) for item in found.external_auth] == [("a", False), ("b", True)]


def test_tasks_fall_back_to_the_sidebar() -> None:
    found = found_of([instance("coder_ai_task.t", id="t", sidebar_app=[{"id": "app"}])], "coder_ai_task.t")
    assert [(item.id, item.app_id) for item in found.ai_tasks] == [("t", "app")]
