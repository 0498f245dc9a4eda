"""The scenarios of the lab: what there is, and how one is run and judged."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import cast

import anyio

from warren.errors import NotFound, WarrenError
from warren.netlab import faults, pair, places
from warren.netlab.kinds import BY_NAME, KINDS, Kind, Path, expected
from warren.netlab.link import Impairment
from warren.netlab.report import Report, judge, misjudged
from warren.netlab.world import World

ALL, PAIRS, OTHERS = "all", "pairs", "others"
SUSPENDED_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Options:
    """How scenarios are run."""

    impairment: Impairment | None = None
    """What the line of each site to the internet does to packets."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that the lab can run."""

    name: str
    summary: str
    run: Callable[[World], Awaitable[Report]]
    waits: bool = False
    """It waits for minutes and does little else, so that it takes no turn from others."""


def catalogue() -> Mapping[str, Scenario]:
    """List all scenarios: every pair of kinds, then the others."""
    pairs = [_pair_scenario(*kinds) for kinds in itertools.combinations_with_replacement(KINDS, 2)]
    return {scenario.name: scenario for scenario in (*pairs, *_others())}


def choose(names: Sequence[str]) -> list[Scenario]:
    """Find scenarios by name: one, a kind of network for all of its pairs, `pairs`, `others` or `all`.

    Raises:
        NotFound: there is none of that name.
    """
    chosen = {scenario.name: scenario for name in names for scenario in _named(name)}
    return list(chosen.values())


def _named(name: str) -> list[Scenario]:
    found = catalogue()
    sides = name.split("+")
    if name in BY_NAME:
        return [scenario for scenario in found.values() if name in scenario.name.split("+")]
    if name in (ALL, PAIRS, OTHERS):
        return [scenario for scenario in found.values() if name == ALL or (name == PAIRS) == ("+" in scenario.name)]
    known = found.get(name) or found.get("+".join(reversed(sides)))
    if known is None:
        raise NotFound(f"no scenario `{name}`", hint="`warren netlab list` names them all")
    return [known]


async def run(scenario: Scenario, options: Options) -> Report:
    """Run a scenario in a world of its own; what goes wrong is in its report."""
    try:
        with World(impairment=options.impairment, seed=options.seed) as world:
            return await scenario.run(world)
    except (WarrenError, OSError, ExceptionGroup) as error:
        return Report(scenario=scenario.name, problems=(_told(error),))


async def run_all(
    chosen: Sequence[Scenario], options: Options, *, jobs: int, show: Callable[[Report], None]
) -> list[Report]:
    """Run scenarios, some at a time; each is shown when it is done, and all are returned in order."""
    reports: dict[str, Report] = {}
    limit = anyio.CapacityLimiter(jobs)

    async def one(scenario: Scenario) -> None:
        async with nullcontext() if scenario.waits else limit:
            reports[scenario.name] = await run(scenario, options)
            show(reports[scenario.name])

    async with anyio.create_task_group() as tasks:
        for scenario in chosen:
            tasks.start_soon(one, scenario)
    return [reports[scenario.name] for scenario in chosen]


def _told(error: Exception) -> str:
    """Write an error for the report; one that is no failure of the network is ours, and raised.

    Errors of task groups arrive in groups; the first is the cause.
    """
    cause: BaseException = error
    while isinstance(cause, BaseExceptionGroup):
        cause = cast("BaseExceptionGroup[BaseException]", cause).exceptions[0]  # of whatever; isinstance cannot tell
    if not isinstance(cause, WarrenError | OSError):
        raise error
    return f"{type(cause).__name__}: {cause}"


def _pair_scenario(one: Kind, other: Kind) -> Scenario:
    wanted = expected(one, other)
    name = f"{one.name}+{other.name}"
    return Scenario(name, f"{wanted.path.value}: {wanted.why}", partial(_run_pair, name, one, other))


async def _run_pair(name: str, one: Kind, other: Kind, world: World) -> Report:
    wanted = expected(one, other)
    sites = world.add_site(one, 1), world.add_site(other, 2)
    outcome = await pair.run_sites(world, *sites, wanted)
    problems = [
        problem
        for site, seen in zip(sites, outcome.seen, strict=True)
        for problem in misjudged(site.kind, site.seen_as, seen)
    ]
    return judge(name, wanted, outcome, problems)


def _others() -> list[Scenario]:
    table: tuple[tuple[str, str, Callable[[str, World], Awaitable[Report]]], ...] = (
        ("same-lan", "two nodes on one network behind one NAT", places.same_lan),
        ("hairpin", "two networks behind one NAT that turns their packets around", places.hairpin),
        ("no-hairpin", "two networks behind one NAT that does not", places.no_hairpin),
        ("no-stun", "two home NATs while no STUN server answers", places.without_stun),
        ("vpn", "no UDP but over a VPN, with a STUN server inside", places.vpn),
        ("vpn-no-stun", "no UDP but over a VPN, without a STUN server inside", places.vpn_without_stun),
        ("cut", "UDP is cut silently during a stream, and restored", faults.cut),
        ("relay-restart", "the relay is killed and started again during a relayed stream", faults.relay_restart),
        ("relay-lost", "the relay is killed during a relayed stream, and a second one is there", faults.relay_lost),
        ("roam", "a node moves to another network during a stream", faults.roam),
        ("relayed-roam", "a node whose only way is the relay moves to another network", faults.relayed_roam),
        ("flap", "a node's interface goes down and up every 5 s for a minute during a stream", faults.flap),
        ("relayed-flap", "the same while the relay is the only way", faults.relayed_flap),
        ("stun-gone", "every STUN server vanishes during a direct stream", faults.stun_gone),
        ("stun-back", "no STUN server answers at first, and then all do, during a stream", faults.stun_back),
        ("region-withdrawn", "a new map lacks the region of a relayed stream", faults.region_withdrawn),
        ("region-moved", "a new map has another relay for the region of a relayed stream", faults.region_moved),
        (
            "suspended-briefly",
            "a node's process is stopped for 8 s with connections open",
            partial(faults.suspended, seconds=8.0, path=Path.DIRECT),
        ),
    )
    waiting = (
        ("suspended", "a node's process is stopped for ten minutes with connections open", Path.DIRECT),
        ("relayed-suspended", "the same while the relay is the only way", Path.RELAY),
    )
    return [
        *(Scenario(name, summary, partial(run, name)) for name, summary, run in table),
        *(
            Scenario(name, summary, partial(faults.suspended, name, seconds=SUSPENDED_SECONDS, path=path), waits=True)
            for name, summary, path in waiting
        ),
    ]
