"""Find out what is wrong with a connection: a report in, findings out. Pure; who measures is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from warren.net import attempts
from warren.net.attempts import Verdict
from warren.net.causes import CAUSES, Actor, Severity
from warren.net.network_report import (
    TUNNEL_PACKET_BYTES,
    Failure,
    NodeNetwork,
    RelayCheck,
    Report,
    ServerCheck,
    STUNCheck,
    STUNFailure,
    WorkspaceCheck,
)

LARGEST_SKEW_SECONDS = 60.0  # tokens are good for longer, certificates for much longer

_SERVER_CODES = {
    Failure.DNS: "dns-failed",
    Failure.PROXY: "proxy-unreachable",
    Failure.CONNECT: "server-unreachable",
    Failure.TLS: "tls-untrusted",
    Failure.NO_TLS: "tls-failed",
    Failure.CLOCK: "tls-dates",
    Failure.HTTP: "server-answer",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should know: a cause of `causes.CAUSES`, as it is here."""

    code: str
    severity: Severity
    cause: str
    fix: str
    who: Actor
    evidence: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong, worst first, and what became of each endpoint that was tried."""

    findings: Sequence[Finding]
    pairs: Sequence[Verdict]

    @property
    def healthy(self) -> bool:
        """Whether everything works, be it slower than it could."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)


def diagnose(report: Report) -> Diagnosis:
    """Judge a report."""
    found = list(_findings(report))
    order = list(Severity)
    found.sort(key=lambda finding: order.index(finding.severity))  # stable: causes stay in the order of the tests
    return Diagnosis(found, attempts.verdicts(report))


def finding(
    code: str,
    detail: str = "",
    *,
    evidence: Sequence[str] = (),
    severity: Severity | None = None,
    fix: str = "",
    who: Actor | None = None,
) -> Finding:
    """Make a finding; what is not said is as in the table of causes."""
    cause = CAUSES[code]
    text = f"{cause.title} {detail}".strip()
    return Finding(code, severity or cause.severity, text, fix or cause.fix, who or cause.actor, tuple(evidence))


def _findings(report: Report) -> Iterator[Finding]:
    yield from _server(report.server)
    if report.server.failure is not Failure.NONE or not report.server.signed_in:
        return
    yield from _relays(report)
    if report.network is not None:
        yield from _udp(report, report.network)
        yield from _interfaces(report.network, "this machine", Actor.NETWORK)
    if report.workspace is None:
        yield from _alone(report)
    else:
        yield from _workspace(report, report.workspace)


def _server(server: ServerCheck) -> Iterator[Finding]:
    if server.failure is not Failure.NONE:
        yield finding(_SERVER_CODES[server.failure], evidence=_seen(server.url, server.error, server.issuer))
        return
    if not server.signed_in:
        yield finding("not-signed-in", evidence=[f"{server.url}: {server.error or 'no session token'}"])
    if server.skew_seconds is not None and abs(server.skew_seconds) > LARGEST_SKEW_SECONDS:
        way = "ahead of" if server.skew_seconds > 0 else "behind"
        yield finding("clock-skew", evidence=[f"this clock is {abs(server.skew_seconds):.0f} s {way} the server's"])
    if server.proxy:
        yield finding("proxy-in-use", evidence=[f"{server.url} through {server.proxy}"])
    if server.version and server.own_version and not _same_release(server.version, server.own_version):
        yield finding("version-mismatch", evidence=[f"server {server.version}, here {server.own_version}"])
    for problem in server.problems:
        yield finding("server-problem", evidence=[problem])


def _same_release(left: str, right: str) -> bool:
    """Compare major and minor; our servers announce the version they speak, then their own."""

    def release(text: str) -> list[str]:
        return (text.partition("+warren-")[2] or text).lstrip("v").split(".")[:2]

    return release(left) == release(right)


def _seen(what: str, error: str, issuer: str) -> list[str]:
    return [f"{what}: {error}", *([f"the certificate was issued by {issuer}"] if issuer else [])]


def _relays(report: Report) -> Iterator[Finding]:
    if not report.server.relay_count:
        yield finding("no-relay")
        return
    broken = [relay for relay in report.relays if not relay.reachable]
    any_works = len(broken) < len(report.relays)
    if proxied := [relay for relay in report.relays if relay.proxy and relay.proxy != report.server.proxy]:
        yield finding("proxy-in-use", evidence=[f"{relay.url} through {relay.proxy}" for relay in proxied])
    for relay in broken:
        yield _broken_relay(relay, Severity.WARNING if any_works else Severity.ERROR)
    for relay in report.relays:
        where = f"{relay.region_name} ({relay.url})"
        if relay.reachable and relay.upgrade_error:
            yield finding("relay-websocket", evidence=[f"{where}: {relay.upgrade_error}"])
        elif relay.reachable and relay.websocket_error:
            yield finding("relay-no-websocket", evidence=[f"{where}: {relay.websocket_error}"])


def _broken_relay(relay: RelayCheck, severity: Severity) -> Finding:
    where = f"{relay.region_name} ({relay.url})"
    match relay.failure:
        case Failure.TLS | Failure.NO_TLS | Failure.CLOCK | Failure.PROXY:
            return finding(
                _SERVER_CODES[relay.failure], severity=severity, evidence=_seen(where, relay.error, relay.issuer)
            )
        case Failure.NONE:
            seen = [f"{where}: upgrade: {relay.upgrade_error}", f"{where}: WebSocket: {relay.websocket_error}"]
            return finding("relay-unreachable", severity=severity, evidence=seen, who=Actor.OPERATOR)
        case Failure.DNS | Failure.CONNECT | Failure.HTTP:
            return finding("relay-unreachable", severity=severity, evidence=[f"{where}: {relay.error}"])


def _udp(report: Report, network: NodeNetwork) -> Iterator[Finding]:
    """Judge this machine's UDP by what STUN servers answered."""
    if report.server.direct_disabled or report.direct_disabled_here:
        return
    if not report.stun:
        severity = Severity.NOTE if _direct(report) else Severity.WARNING
        yield finding("no-stun", severity=severity)
        return
    silent = [check for check in report.stun if not check.mapped]
    seen = [_stun_text(check) for check in silent]
    if len(silent) < len(report.stun):
        if silent:
            yield finding("stun-partly", evidence=seen)
        return
    yield _no_stun_answer(report, network, silent, seen)


def _no_stun_answer(report: Report, network: NodeNetwork, silent: Sequence[STUNCheck], seen: Sequence[str]) -> Finding:
    agent = report.workspace.report if report.workspace else None
    if all(check.failure is STUNFailure.BLOCKED_HERE for check in silent):
        return finding("udp-blocked-here", evidence=seen)
    if _direct(report) or network.udp or all(check.failure is not STUNFailure.SILENCE for check in silent):
        return finding("stun-unreachable", evidence=seen)
    if agent is None:
        return finding("udp-blocked", "(Or every STUN server is down.)", evidence=seen)
    if agent.network.udp:
        return finding("udp-blocked", evidence=[*seen, "the agent gets answers over UDP"])
    heard = "the agent gets no answer from a STUN server either"
    return finding("udp-blocked", "(Or every STUN server is down.)", evidence=[*seen, heard])


def _stun_text(check: STUNCheck) -> str:
    return f"{check.sent} requests to STUN server {check.name}: {check.failure.value}"


def _interfaces(network: NodeNetwork, where: str, who: Actor) -> Iterator[Finding]:
    for each in network.interfaces:
        if 0 < each.mtu < TUNNEL_PACKET_BYTES and each.addresses:
            yield finding("low-mtu", evidence=[f"{where}: {each.name} has MTU {each.mtu}"], who=who)


def _alone(report: Report) -> Iterator[Finding]:
    """Say what can be said of direct connections when no workspace was named."""
    yield from _policy(report)
    if report.network is not None and report.network.mapping_varies:
        yield finding("hard-nat", "It is this machine's.", evidence=_mappings(report.network, "this machine"))


def _policy(report: Report) -> Iterator[Finding]:
    if report.direct_disabled_here:
        yield finding("direct-disabled-here")
    if report.server.direct_disabled:
        yield finding("direct-disabled-by-server")


def _workspace(report: Report, workspace: WorkspaceCheck) -> Iterator[Finding]:
    if workspace.status != "running":
        fix = f"warren start {workspace.name}"
        yield finding("workspace-not-running", evidence=[f"{workspace.name} is {workspace.status}"], fix=fix)
        return
    if workspace.agent_status != "connected":
        seen = [f"agent {workspace.agent} is {workspace.agent_status}"]
        yield finding("agent-offline", evidence=[*seen, *([workspace.problem] if workspace.problem else [])])
        return
    if not workspace.introduced:
        yield finding("not-introduced", evidence=[workspace.problem] if workspace.problem else [])
        return
    if workspace.path is None or workspace.relayed_latency_seconds is None:
        yield finding("agent-unreachable", evidence=[workspace.problem] if workspace.problem else [])
        return
    if workspace.report_error:
        yield finding("agent-too-old", evidence=[workspace.report_error])
    if workspace.report is not None:
        where = f"workspace {workspace.name}"
        yield from _interfaces(workspace.report.network, where, Actor.AGENT_NETWORK)
    if not workspace.path.direct:
        yield from _why_relayed(report, workspace)


def _why_relayed(report: Report, workspace: WorkspaceCheck) -> Iterator[Finding]:
    """Name the cause that keeps a reachable agent on the relay, the first that explains it."""
    assert workspace.path is not None
    if report.direct_disabled_here or report.server.direct_disabled:
        yield from _policy(report)
        return
    agent = workspace.report.network if workspace.report else None
    if agent is not None and agent.block_direct:
        yield finding("direct-disabled-by-agent")
        return
    own = report.network or NodeNetwork()
    if report.stun and not any(check.mapped for check in report.stun) and not own.udp:
        if agent is not None and report.stun and not agent.udp:
            yield finding("agent-udp-blocked", evidence=["no STUN server answers the agent"])
        return  # said already: udp-blocked, or one of its kin
    if agent is not None and report.stun and not agent.udp:
        yield finding("agent-udp-blocked", evidence=["no STUN server answers the agent"])
        return
    tried = workspace.path.attempts
    evidence = [attempts.text(each) for each in tried]
    if not tried:
        yield finding("agent-no-endpoints")
    elif own.mapping_varies and agent is not None and agent.mapping_varies:
        yield finding("hard-nat-both", evidence=[*_mappings(own, "this machine"), *_mappings(agent, "the agent")])
    elif attempts.one_public_address(own, agent, tried):
        yield finding("no-hairpin", evidence=[f"both are seen as {attempts.public_host(own)}", *evidence])
    elif not attempts.families_meet(own, tried):
        yield finding("no-common-family", evidence=evidence)
    elif own.mapping_varies or (agent is not None and agent.mapping_varies):
        yield _one_hard_nat(own, agent, evidence)
    elif not any(each.pings_sent for each in tried):
        yield finding("direct-pending", evidence=evidence)
    elif report.stun:
        yield finding("direct-filtered", evidence=evidence)


def _one_hard_nat(own: NodeNetwork, agent: NodeNetwork | None, evidence: Sequence[str]) -> Finding:
    if own.mapping_varies:
        seen = [*_mappings(own, "this machine"), *evidence]
        return finding("hard-nat", "It is this machine's, and the other side's filter is strict.", evidence=seen)
    assert agent is not None
    seen = [*_mappings(agent, "the agent"), *evidence]
    detail = "It is the workspace's, and this side's filter is strict."
    return finding("hard-nat", detail, evidence=seen, who=Actor.AGENT_NETWORK)


def _mappings(network: NodeNetwork, who: str) -> list[str]:
    """Show what each STUN server saw."""
    seen = [f"{server} sees {who} as {mapped}" for server, mapped in sorted(network.stun_answers.items())]
    return seen or [f"STUN servers see {who} at different public ports"]


def _direct(report: Report) -> bool:
    return report.workspace is not None and report.workspace.path is not None and report.workspace.path.direct
