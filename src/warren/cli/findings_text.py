"""What `doctor` and `netcheck` say: a line for each part, each finding, each endpoint that was tried. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from warren.cli import ping_stats
from warren.net.attempts import Verdict, Way
from warren.net.causes import Actor, Severity
from warren.net.diagnosis import Diagnosis, Finding
from warren.net.network_report import Failure, NodeNetwork, RelayCheck, Report, ServerCheck, WorkspaceCheck

GOOD, DOUBTFUL, BAD, NOTE = "✔", "⚠", "✘", "•"
_MARKS = {Severity.ERROR: BAD, Severity.WARNING: DOUBTFUL, Severity.NOTE: NOTE}


def summary(report: Report) -> Iterator[str]:
    """Say how each part is: five lines where all is well."""
    yield _server(report.server)
    if report.network is None:
        return
    yield _network(report, report.network)
    yield _relays(report)
    if report.workspace is None:
        yield _alone(report, report.network)
        return
    yield _agent(report.workspace)
    if report.workspace.path is not None:
        yield _path(report, report.workspace)


def network_lines(report: Report) -> Iterator[str]:
    """Say all that was measured of this machine's network."""
    network = report.network
    assert network is not None
    yield _network(report, network)
    for check in report.stun:
        took = f" in {ping_stats.rounded(check.latency_seconds)}" if check.latency_seconds is not None else ""
        heard = f"sees us as {check.mapped}{took}" if check.mapped else check.failure.value
        yield f"    STUN {check.name}: {heard}"
    yield _relays(report)
    for relay in report.relays:
        yield f"    relay {relay.region_name} ({relay.url}): {_relay(relay)}"
    yield f"    home region: {network.preferred_region or 'none yet'}"
    for endpoint in network.endpoints:
        yield f"    endpoint that workspaces are told: {endpoint}"
    yield from _details(network)


def _relay(relay: RelayCheck) -> str:
    if relay.failure is not Failure.NONE:
        return relay.error
    took = f" in {ping_stats.rounded(relay.latency_seconds)}" if relay.latency_seconds is not None else ""
    took += f", through the proxy {relay.proxy}" if relay.proxy else ""
    match bool(relay.upgrade_error), bool(relay.websocket_error):
        case False, False:
            return f"by upgrade and by WebSocket{took}"
        case False, True:
            return f"by upgrade{took}; not by WebSocket: {relay.websocket_error}"
        case True, False:
            return f"by WebSocket{took}; not by upgrade: {relay.upgrade_error}"
        case _:
            return f"neither by upgrade ({relay.upgrade_error}) nor by WebSocket ({relay.websocket_error})"


def _details(network: NodeNetwork) -> Iterator[str]:
    if network.hairpinning is not None:
        works = "works" if network.hairpinning else "does not work"
        yield f"    hairpinning (our own public address, tried from inside): {works}"
    if network.port_mapping is not None:
        mapped = network.port_mapping
        yield "    port mapping: " + (f"{mapped.external} by {mapped.protocol}" if mapped.protocol else mapped.reason)
    if network.captive_portal:
        yield "    a captive portal answers in the place of others: sign in to this network first"
    if not network.os_has_ipv6:
        yield "    IPv6 is turned off on this machine"
    for warning in network.warnings:
        yield f"    {warning}"
    if network.stack_reason:
        yield f"    TCP in the tunnel: {network.stack} ({network.stack_reason})"


def findings(diagnosis: Diagnosis, *, notes: bool = True) -> Iterator[str]:
    """Say each finding: the cause, what was seen, the fix, and who has to act."""
    for finding in diagnosis.findings:
        if notes or finding.severity is not Severity.NOTE:
            yield ""
            yield from _finding(finding)


def _finding(finding: Finding) -> Iterator[str]:
    yield f"{_MARKS[finding.severity]} {finding.code}: {finding.cause}"
    for line in finding.evidence:
        yield f"    seen: {line}"
    yield f"    fix:  {finding.fix}"
    if finding.who is not Actor.NOBODY:
        yield f"    who:  {finding.who.value}"


def pairs(found: Sequence[Verdict]) -> Iterator[str]:
    """Say what became of each endpoint that was tried."""
    for way, heading in ((Way.OUT, "From here to the agent:"), (Way.IN, "From the agent to here:")):
        mine = [each for each in found if each.way is way]
        if not mine:
            continue
        yield ""
        yield heading
        for each in mine:
            yield from _pair(each)


def _pair(verdict: Verdict) -> Iterator[str]:
    took = f", {ping_stats.rounded(verdict.latency_seconds)}" if verdict.latency_seconds is not None else ""
    pings = "ping" if verdict.pings_sent == 1 else "pings"
    counts = f"{verdict.pings_sent} {pings} sent, {verdict.pongs_received} answered{took}"
    mark = GOOD if verdict.works else DOUBTFUL if verdict.code else NOTE
    source = f" ({verdict.source})" if verdict.source else ""
    yield f"  {mark} {verdict.endpoint}{source}: {counts}: {verdict.cause}"
    if verdict.fix and verdict.code:
        who = "" if verdict.who is Actor.NOBODY else f" ({verdict.who.value})"
        yield f"      {verdict.code}: {verdict.fix}{who}"


def verdict(diagnosis: Diagnosis) -> str:
    """Say in a word how it stands."""
    count = sum(finding.severity is Severity.ERROR for finding in diagnosis.findings)
    if count:
        return f"{count} thing{'s do' if count > 1 else ' does'} not work."
    if any(finding.severity is Severity.WARNING for finding in diagnosis.findings):
        return "Everything works, but could be better."
    return "Everything works."


def _server(server: ServerCheck) -> str:
    if server.failure is not Failure.NONE:
        return f"{BAD} server: {server.url} cannot be used: {server.error}"
    if not server.signed_in:
        return f"{BAD} server: {server.url} answers, but you are not signed in"
    took = f" in {ping_stats.rounded(server.latency_seconds)}" if server.latency_seconds is not None else ""
    version = f", version {server.version}" if server.version else ""
    proxy = f", through the proxy {server.proxy}" if server.proxy else ""
    return f"{GOOD} server: {server.url} answers{took}{version}{proxy}"


def _network(report: Report, network: NodeNetwork) -> str:
    families = [name for name, works in (("IPv4", network.ipv4), ("IPv6", network.ipv6)) if works]
    asked, answered = len(report.stun), sum(bool(check.mapped) for check in report.stun)
    if report.direct_disabled_here or report.server.direct_disabled:
        return f"{GOOD} network: {' and '.join(families) or 'no address family'} to the relays; direct is turned off"
    if not asked:
        return f"{DOUBTFUL} network: whether UDP works is not known: there is no STUN server"
    if not answered:
        return f"{DOUBTFUL} network: none of {asked} STUN servers answers over UDP"
    mark = GOOD if answered == asked and not network.mapping_varies else DOUBTFUL
    seen = network.global_v4 or network.global_v6 or next(check.mapped for check in report.stun if check.mapped)
    family = " and ".join(families) or "IPv4"
    servers = f"{answered} of {asked} STUN servers answer"
    return f"{mark} network: UDP over {family}, seen as {seen}; {servers}; {_nat(network)}"


def _nat(network: NodeNetwork) -> str:
    if network.mapping_varies is None:
        return "NAT not measured (one STUN server)"
    if network.mapping_varies:
        return "hard NAT: another public port for each destination"
    return "one public port for all destinations"


def _relays(report: Report) -> str:
    works = [relay for relay in report.relays if relay.reachable]
    if not works:
        return f"{BAD} relays: none of {len(report.relays)} can be reached"
    mark = GOOD if len(works) == len(report.relays) else DOUBTFUL
    nearest = min(works, key=lambda relay: relay.latency_seconds if relay.latency_seconds is not None else float("inf"))
    took = f", {ping_stats.rounded(nearest.latency_seconds)}" if nearest.latency_seconds is not None else ""
    counts = f"{len(works)} of {len(report.relays)} reachable"
    return f"{mark} relays: {counts}; nearest: {nearest.region_name}{took}"


def _alone(report: Report, network: NodeNetwork) -> str:
    if report.direct_disabled_here or report.server.direct_disabled:
        return f"{NOTE} direct connections are turned off; everything goes by relay"
    if not any(check.mapped for check in report.stun):
        return f"{DOUBTFUL} direct connections will work only within one network"
    if network.mapping_varies:
        return f"{DOUBTFUL} direct connections will work with workspaces whose network is not as strict"
    return f"{GOOD} direct connections: nothing on this side stands in their way (name a workspace to try one)"


def _agent(workspace: WorkspaceCheck) -> str:
    if workspace.status != "running":
        return f"{BAD} workspace: {workspace.name} is {workspace.status}"
    name = f"{workspace.name}.{workspace.agent}"
    if workspace.agent_status != "connected":
        return f"{BAD} workspace: the agent of {name} is {workspace.agent_status}"
    if workspace.relayed_latency_seconds is None:
        return f"{BAD} workspace: the agent of {name} is connected, but cannot be reached through the tunnel"
    took = ping_stats.rounded(workspace.relayed_latency_seconds)
    return f"{GOOD} workspace: the agent of {name} answers through the tunnel in {took}"


def _path(report: Report, workspace: WorkspaceCheck) -> str:
    path = workspace.path
    assert path is not None
    took = f" in {ping_stats.rounded(path.latency_seconds)}" if path.latency_seconds is not None else ""
    if path.direct:
        return f"{GOOD} path: direct to {path.endpoint}{took}"
    names = {relay.region_id: relay.region_name for relay in report.relays}
    meant = report.direct_disabled_here or report.server.direct_disabled
    mark = GOOD if meant else DOUBTFUL
    return f"{mark} path: by relay {names.get(path.region) or path.region}{took}: {path.reason}"
