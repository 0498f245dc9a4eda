"""What `warren doctor` makes of networks that are broken for real: the true cause, and who has to act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio
import anyio.to_thread
import msgspec
import pytest

from warren.net import derp_map
from warren.net.causes import Actor
from warren.net.diagnosis import Diagnosis, diagnose
from warren.net.network_report import AgentReport, NodeNetwork, Report, ServerCheck, STUNCheck, WorkspaceCheck
from warren.netlab import namespace, pair
from warren.netlab.kinds import BY_NAME, expected
from warren.netlab.pair import Pair
from warren.netlab.services import derp_map as lab_map
from warren.netlab.world import Site, World
from warren.tunnel import observe, stun_probe

missing = namespace.missing()
pytestmark = pytest.mark.skipif(bool(missing), reason=missing)

FOUND = {
    "easy+easy": set[str](),
    "public+hard": set[str](),
    "hard+hard": {"hard-nat-both"},
    "hard+easy": {"hard-nat"},
    "easy+hard": {"hard-nat"},
    "udp-blocked+easy": {"udp-blocked"},
    "easy+udp-blocked": {"agent-udp-blocked"},
    "udp-blocked+udp-blocked": {"udp-blocked", "agent-udp-blocked"},
    "https-only+easy": {"udp-blocked"},
    "tls-intercept+easy": {"udp-blocked"},
    "tls-proxy+easy": {"udp-blocked"},
    "easy+socks-proxy": {"agent-udp-blocked"},
    "easy+v6-only": {"no-common-family"},
}


@pytest.mark.parametrize("name", FOUND)
def test_the_true_cause_of_a_broken_network_is_named(name: str) -> None:
    found = anyio.run(_examine, name)
    assert {finding.code for finding in found.findings} == FOUND[name], found
    for verdict in found.pairs:
        assert verdict.works or verdict.cause, verdict


def test_the_side_that_has_to_act_is_named() -> None:
    (ours,) = anyio.run(_examine, "udp-blocked+easy").findings
    (theirs,) = anyio.run(_examine, "easy+udp-blocked").findings
    assert (ours.who, theirs.who) == (Actor.NETWORK, Actor.AGENT_NETWORK)


async def _examine(name: str) -> Diagnosis:
    """Connect two nodes and judge the connection as the command does, from the first one's side."""
    one, other = (BY_NAME[side] for side in name.split("+"))
    with World() as world:
        sites = world.add_site(one, 1), world.add_site(other, 2)
        async with pair.two_nodes(world, *sites) as nodes:
            with await nodes.connect() as connection:
                connection.setblocking(True)
                connection.settimeout(pair.DIAL_SECONDS)
                await nodes.settle(expected(one, other).path, connection)
                return diagnose(await _report(nodes, *sites))


async def _report(nodes: Pair, here: Site, there: Site) -> Report:
    known = derp_map.parse(msgspec.json.decode(lab_map()))

    def ask() -> Sequence[STUNCheck]:
        return here.node.call(lambda: anyio.run(stun_probe.check_stun, known))

    stun = await anyio.to_thread.run_sync(ask)
    path = observe.path(nodes.stats())
    back = nodes.other.peer(nodes.one.key)
    assert back is not None
    agent = AgentReport(await _network(nodes.other, there), observe.path(back))
    pong = await nodes.one.ping(nodes.other.key, kind="tunnel", timeout_seconds=pair.DIAL_SECONDS)
    workspace = WorkspaceCheck(
        "dev",
        "running",
        "main",
        "connected",
        introduced=True,
        relayed_latency_seconds=pong.latency_seconds,
        path=path,
        report=agent,
    )
    return Report(
        ServerCheck("https://lab", relay_count=1, stun_count=len(stun)),
        await _network(nodes.one, here),
        stun=stun,
        workspace=workspace,
    )


async def _network(node: pair.Node, site: Site) -> NodeNetwork:
    measured = observe.network(await node.netcheck(), node.engine, block_direct=False)
    return replace(measured, interfaces=site.node.call(observe.interfaces))
