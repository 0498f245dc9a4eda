"""Broken networks as data: each names its true cause, and who has to act."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from warren.net.attempts import Way
from warren.net.causes import CAUSES, Actor, Severity
from warren.net.diagnosis import diagnose, finding
from warren.net.network_report import (
    AgentReport,
    Attempt,
    Failure,
    Interface,
    NodeNetwork,
    PeerPath,
    RelayCheck,
    Report,
    ServerCheck,
    STUNCheck,
    STUNFailure,
    WorkspaceCheck,
)

RELAY = RelayCheck(999, "Embedded", "999b", "https://warren.example.com/derp", latency_seconds=0.01)
STUN = STUNCheck("999b", "warren.example.com", 3478, "203.0.113.1", 1, "8.8.4.4:41641", 0.01)
SILENT = replace(STUN, mapped="", sent=3, failure=STUNFailure.SILENCE)
LAPTOP = NodeNetwork(
    udp=True,
    ipv4=True,
    ipv4_can_send=True,
    mapping_varies=False,
    global_v4="8.8.4.4:41641",
    stun_answers={"999b": "8.8.4.4:41641"},
    interfaces=(Interface("eth0", 1500, ("192.168.1.7/24",)),),
)
POD = replace(
    LAPTOP,
    global_v4="9.9.9.9:5000",
    stun_answers={"999b": "9.9.9.9:5000"},
    interfaces=(Interface("eth0", 1500, ("10.2.0.9/16",)),),
)
HARD = {"mapping_varies": True}
NOTHING_HEARD: dict[str, str] = {}
NO_UDP = {"udp": False, "global_v4": "", "mapping_varies": None, "stun_answers": NOTHING_HEARD}
TRIED = Attempt("9.9.9.9:5000", "published", "failed", 4, 0)
BACK = Attempt("8.8.4.4:41641", "published", "failed", 4, 0)
DIRECT = PeerPath("fd7a::1", True, "9.9.9.9:5000", attempts=(replace(TRIED, state="answered", pongs_received=4),))
RELAYED = PeerPath("fd7a::1", False, region=999, attempts=(TRIED,), reason="no endpoint of the peer has answered yet")
WORKSPACE = WorkspaceCheck(
    "dev",
    "running",
    "main",
    "connected",
    introduced=True,
    relayed_latency_seconds=0.02,
    path=DIRECT,
    report=AgentReport(POD, replace(RELAYED, attempts=(BACK,))),
)
SERVER = ServerCheck("https://warren.example.com", relay_count=1, stun_count=1, skew_seconds=0.4)
HEALTHY = Report(SERVER, LAPTOP, stun=(STUN,), relays=(RELAY,), workspace=WORKSPACE)


def broken(
    *,
    server: ServerCheck = SERVER,
    laptop: NodeNetwork = LAPTOP,
    pod: NodeNetwork | None = POD,
    path: PeerPath = RELAYED,
    stun: Sequence[STUNCheck] = (STUN,),
    relays: Sequence[RelayCheck] = (RELAY,),
    here: bool = False,
) -> Report:
    """Make a report of a connection that stays on the relay unless the path says otherwise."""
    report = AgentReport(pod, replace(RELAYED, attempts=(BACK,))) if pod else None
    workspace = replace(WORKSPACE, path=path, report=report)
    return Report(server, laptop, here, stun, relays, workspace)


CAUSES_BY_NETWORK: dict[str, tuple[Report, str, Actor]] = {
    "no token": (Report(replace(SERVER, signed_in=False)), "not-signed-in", Actor.YOU),
    "unknown name": (Report(replace(SERVER, failure=Failure.DNS, error="unknown")), "dns-failed", Actor.YOU),
    "server down": (
        Report(replace(SERVER, failure=Failure.CONNECT, error="refused")),
        "server-unreachable",
        Actor.OPERATOR,
    ),
    "proxy says no": (
        Report(replace(SERVER, failure=Failure.PROXY, error="403")),
        "proxy-unreachable",
        Actor.NETWORK,
    ),
    "TLS intercepted": (
        Report(replace(SERVER, failure=Failure.TLS, error="self-signed", issuer="CN=Corp")),
        "tls-untrusted",
        Actor.YOU,
    ),
    "no TLS": (Report(replace(SERVER, failure=Failure.NO_TLS, error="no TLS there")), "tls-failed", Actor.YOU),
    "expired": (Report(replace(SERVER, failure=Failure.CLOCK, error="expired")), "tls-dates", Actor.OPERATOR),
    "captive portal": (Report(replace(SERVER, failure=Failure.HTTP, error="302")), "server-answer", Actor.YOU),
    "wrong clock": (broken(server=replace(SERVER, skew_seconds=-400), path=DIRECT), "clock-skew", Actor.YOU),
    "unwell server": (
        broken(server=replace(SERVER, problems=("derp: away",)), path=DIRECT),
        "server-problem",
        Actor.OPERATOR,
    ),
    "no relay": (broken(server=replace(SERVER, relay_count=0), relays=(), path=DIRECT), "no-relay", Actor.OPERATOR),
    "relay down": (
        broken(relays=(replace(RELAY, failure=Failure.CONNECT, error="refused"),), path=DIRECT),
        "relay-unreachable",
        Actor.NETWORK,
    ),
    "relay speaks neither": (
        broken(relays=(replace(RELAY, upgrade_error="400", websocket_error="404"),), path=DIRECT),
        "relay-unreachable",
        Actor.OPERATOR,
    ),
    "relay's TLS": (
        broken(relays=(replace(RELAY, failure=Failure.TLS, error="self-signed", issuer="CN=Corp"),), path=DIRECT),
        "tls-untrusted",
        Actor.YOU,
    ),
    "upgrade stripped": (
        broken(relays=(replace(RELAY, upgrade_error="400"),), path=DIRECT),
        "relay-websocket",
        Actor.OPERATOR,
    ),
    "UDP blocked": (broken(laptop=replace(LAPTOP, **NO_UDP), stun=(SILENT,)), "udp-blocked", Actor.NETWORK),
    "own firewall": (
        broken(laptop=replace(LAPTOP, **NO_UDP), stun=(replace(SILENT, failure=STUNFailure.BLOCKED_HERE),)),
        "udp-blocked-here",
        Actor.YOU,
    ),
    "agent's UDP blocked": (broken(pod=replace(POD, **NO_UDP)), "agent-udp-blocked", Actor.AGENT_NETWORK),
    "no STUN": (broken(stun=(), laptop=replace(LAPTOP, **NO_UDP)), "no-stun", Actor.OPERATOR),
    "STUN down, seen from a direct path": (
        broken(stun=(SILENT,), laptop=replace(LAPTOP, **NO_UDP), path=DIRECT),
        "stun-unreachable",
        Actor.OPERATOR,
    ),
    "STUN down, refused": (
        broken(stun=(replace(SILENT, failure=STUNFailure.REFUSED),), laptop=replace(LAPTOP, **NO_UDP)),
        "stun-unreachable",
        Actor.OPERATOR,
    ),
    "one STUN of two": (broken(stun=(STUN, replace(SILENT, node="x")), path=DIRECT), "stun-partly", Actor.OPERATOR),
    "hard NATs": (
        broken(laptop=replace(LAPTOP, **HARD), pod=replace(POD, **HARD)),
        "hard-nat-both",
        Actor.NETWORK,
    ),
    "own hard NAT": (broken(laptop=replace(LAPTOP, **HARD)), "hard-nat", Actor.NETWORK),
    "agent's hard NAT": (broken(pod=replace(POD, **HARD)), "hard-nat", Actor.AGENT_NETWORK),
    "one router": (
        broken(pod=replace(POD, global_v4="8.8.4.4:7777"), laptop=replace(LAPTOP, hairpinning=False)),
        "no-hairpin",
        Actor.NETWORK,
    ),
    "families": (
        broken(path=replace(RELAYED, attempts=(Attempt("[2600::1]:5", pings_sent=0),))),
        "no-common-family",
        Actor.NETWORK,
    ),
    "firewall between": (broken(), "direct-filtered", Actor.NETWORK),
    "too early": (
        broken(path=replace(RELAYED, attempts=(replace(TRIED, pings_sent=0, state="untried"),))),
        "direct-pending",
        Actor.NOBODY,
    ),
    "no endpoints": (broken(path=replace(RELAYED, attempts=())), "agent-no-endpoints", Actor.TEMPLATE),
    "VPN": (
        broken(laptop=replace(LAPTOP, interfaces=(Interface("wg0", 1280, ("10.0.0.2/32",)),)), path=DIRECT),
        "low-mtu",
        Actor.NETWORK,
    ),
    "agent's VPN": (
        broken(pod=replace(POD, interfaces=(Interface("wg0", 1200, ("10.0.0.2/32",)),)), path=DIRECT),
        "low-mtu",
        Actor.AGENT_NETWORK,
    ),
    "forbidden here": (broken(here=True), "direct-disabled-here", Actor.YOU),
    "forbidden by the server": (
        broken(server=replace(SERVER, direct_disabled=True, stun_count=0), stun=()),
        "direct-disabled-by-server",
        Actor.OPERATOR,
    ),
    "forbidden by the agent": (broken(pod=replace(POD, block_direct=True)), "direct-disabled-by-agent", Actor.TEMPLATE),
    "old agent": (
        replace(HEALTHY, workspace=replace(WORKSPACE, report=None, report_error="status 404")),
        "agent-too-old",
        Actor.YOU,
    ),
    "stopped": (
        replace(HEALTHY, workspace=WorkspaceCheck("dev", "stopped")),
        "workspace-not-running",
        Actor.YOU,
    ),
    "agent away": (
        replace(HEALTHY, workspace=WorkspaceCheck("dev", "running", "main", "disconnected")),
        "agent-offline",
        Actor.TEMPLATE,
    ),
    "not introduced": (
        replace(HEALTHY, workspace=WorkspaceCheck("dev", "running", "main", "connected")),
        "not-introduced",
        Actor.OPERATOR,
    ),
    "agent mute": (
        replace(HEALTHY, workspace=replace(WORKSPACE, relayed_latency_seconds=None, path=None)),
        "agent-unreachable",
        Actor.TEMPLATE,
    ),
    "proxy": (broken(server=replace(SERVER, proxy="http://proxy:3128"), path=DIRECT), "proxy-in-use", Actor.NOBODY),
    "proxy for relays only": (
        broken(relays=(replace(RELAY, proxy="socks5://proxy:1080"),), path=DIRECT),
        "proxy-in-use",
        Actor.NOBODY,
    ),
    "other version": (
        broken(server=replace(SERVER, version="v2.36.0+warren-9.1.0", own_version="0.1.0"), path=DIRECT),
        "version-mismatch",
        Actor.YOU,
    ),
    "half a relay": (
        broken(relays=(replace(RELAY, websocket_error="404"),), path=DIRECT),
        "relay-no-websocket",
        Actor.OPERATOR,
    ),
}


@pytest.mark.parametrize("name", CAUSES_BY_NETWORK)
def test_each_broken_network_has_its_cause(name: str) -> None:
    report, code, who = CAUSES_BY_NETWORK[name]
    found = diagnose(report).findings
    assert [each.code for each in found] == [code]
    assert found[0].who is who


def test_every_cause_can_be_found() -> None:
    assert {code for _, code, _ in CAUSES_BY_NETWORK.values()} == set(CAUSES)


def test_a_healthy_network_has_no_findings() -> None:
    found = diagnose(HEALTHY)
    assert found.findings == []
    assert found.healthy


def test_what_is_slow_is_healthy_and_what_does_not_work_is_not() -> None:
    for report, code, _ in CAUSES_BY_NETWORK.values():
        assert diagnose(report).healthy == (CAUSES[code].severity is not Severity.ERROR), code


def test_one_relay_of_two_is_only_a_warning() -> None:
    down = replace(RELAY, region_id=1, failure=Failure.CONNECT, error="refused")
    (found,) = diagnose(broken(relays=(RELAY, down), path=DIRECT)).findings
    assert (found.code, found.severity) == ("relay-unreachable", Severity.WARNING)
    assert diagnose(broken(relays=(RELAY, down), path=DIRECT)).healthy


def test_the_worst_comes_first() -> None:
    down = replace(RELAY, failure=Failure.CONNECT, error="refused")
    found = diagnose(broken(server=replace(SERVER, proxy="http://p"), stun=(STUN, SILENT), relays=(down,), path=DIRECT))
    assert [each.severity for each in found.findings] == [Severity.ERROR, Severity.WARNING, Severity.NOTE]


def test_udp_blocked_on_both_sides_names_both() -> None:
    report = broken(laptop=replace(LAPTOP, **NO_UDP), pod=replace(POD, **NO_UDP), stun=(SILENT,))
    assert [each.code for each in diagnose(report).findings] == ["udp-blocked", "agent-udp-blocked"]


def test_evidence_says_what_was_sent_and_what_came_back() -> None:
    (found,) = diagnose(broken()).findings
    assert found.evidence == ("9.9.9.9:5000: 4 pings sent, none answered",)
    (found,) = diagnose(broken(laptop=replace(LAPTOP, **NO_UDP), stun=(SILENT,))).findings
    assert found.evidence[0] == "3 requests to STUN server warren.example.com:3478: no answer"
    assert found.evidence[1] == "the agent gets answers over UDP"


PAIRS: dict[str, tuple[str, NodeNetwork, NodeNetwork, str]] = {
    "works elsewhere": ("10.2.0.9:5000", LAPTOP, POD, ""),
    "same network": ("192.168.1.9:5000", LAPTOP, POD, "direct-filtered"),
    "loopback": ("127.0.0.1:5000", LAPTOP, POD, ""),
    "carrier": ("100.64.1.1:5000", LAPTOP, POD, ""),
    "no IPv6": ("[2600::1]:5000", LAPTOP, POD, "no-common-family"),
    "link-local": ("169.254.3.3:5000", LAPTOP, POD, ""),
    "blocked": ("9.9.9.9:5000", replace(LAPTOP, **NO_UDP), POD, "udp-blocked"),
    "blocked there": ("9.9.9.9:5000", LAPTOP, replace(POD, **NO_UDP), "agent-udp-blocked"),
    "both hard": ("9.9.9.9:5000", replace(LAPTOP, **HARD), replace(POD, **HARD), "hard-nat-both"),
    "theirs hard": ("9.9.9.9:5000", LAPTOP, replace(POD, **HARD), "hard-nat"),
    "ours hard": ("9.9.9.9:5000", replace(LAPTOP, **HARD), POD, "hard-nat"),
    "one router": ("8.8.4.4:5000", LAPTOP, replace(POD, global_v4="8.8.4.4:1"), "no-hairpin"),
    "firewall": ("9.9.9.9:5000", LAPTOP, POD, "direct-filtered"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_each_endpoint_has_a_reason(name: str) -> None:
    endpoint, laptop, pod, code = PAIRS[name]
    path = replace(RELAYED, attempts=(replace(TRIED, endpoint=endpoint),))
    ours, theirs = diagnose(broken(laptop=laptop, pod=pod, path=path)).pairs
    assert (ours.way, theirs.way) == (Way.OUT, Way.IN)
    assert ours.code == code
    assert ours.cause
    assert not ours.works


def test_an_answered_endpoint_works() -> None:
    ours, _ = diagnose(HEALTHY).pairs
    assert (ours.works, ours.code) == (True, "")


def test_a_finding_is_worded_by_the_table_unless_told_otherwise() -> None:
    plain = finding("low-mtu")
    assert (plain.cause, plain.fix, plain.who) == (
        CAUSES["low-mtu"].title,
        CAUSES["low-mtu"].fix,
        CAUSES["low-mtu"].actor,
    )
    assert finding("low-mtu", "Here.", who=Actor.YOU).who is Actor.YOU
