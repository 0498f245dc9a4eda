"""What people read of a diagnosis."""

from dataclasses import replace

from tests.unit.net.test_diagnosis import (
    HARD,
    HEALTHY,
    LAPTOP,
    NO_UDP,
    POD,
    RELAY,
    RELAYED,
    SERVER,
    SILENT,
    STUN,
    TRIED,
    WORKSPACE,
    broken,
)
from warren.cli import findings_text
from warren.net.diagnosis import diagnose
from warren.net.network_report import Failure, PortMapping, Report, WorkspaceCheck


def test_five_lines_where_all_is_well() -> None:
    report = replace(HEALTHY, server=replace(SERVER, latency_seconds=0.012, version="v2.36.0+warren-0.1.0"))
    assert list(findings_text.summary(report)) == [
        "✔ server: https://warren.example.com answers in 12ms, version v2.36.0+warren-0.1.0",
        "✔ network: UDP over IPv4, seen as 8.8.4.4:41641; 1 of 1 STUN servers answer;"
        " one public port for all destinations",
        "✔ relays: 1 of 1 reachable; nearest: Embedded, 10ms",
        "✔ workspace: the agent of dev.main answers through the tunnel in 20ms",
        "✔ path: direct to 9.9.9.9:5000",
    ]
    assert list(findings_text.findings(diagnose(report))) == []
    assert findings_text.verdict(diagnose(report)) == "Everything works."


def test_a_finding_says_what_was_seen_the_fix_and_who() -> None:
    report = broken(laptop=replace(LAPTOP, **NO_UDP), stun=(SILENT,))
    assert list(findings_text.findings(diagnose(report))) == [
        "",
        "⚠ udp-blocked: UDP does not leave this machine's network, so that everything goes by relay.",
        "    seen: 3 requests to STUN server warren.example.com:3478: no answer",
        "    seen: the agent gets answers over UDP",
        "    fix:  Allow outgoing UDP (at least to the STUN servers and the workspaces), and the answers to it.",
        "    who:  the administrator of your network",
    ]
    assert findings_text.verdict(diagnose(report)) == "Everything works, but could be better."
    lines = list(findings_text.summary(report))
    assert lines[1] == "⚠ network: none of 1 STUN servers answers over UDP"
    assert lines[4] == "⚠ path: by relay Embedded: no endpoint of the peer has answered yet"


def test_each_endpoint_has_its_line_and_its_fix() -> None:
    path = replace(RELAYED, attempts=(TRIED, replace(TRIED, endpoint="10.2.0.9:5000", pings_sent=1)))
    lines = list(findings_text.pairs(diagnose(broken(path=path)).pairs))
    assert lines[:5] == [
        "",
        "From here to the agent:",
        "  ⚠ 9.9.9.9:5000 (published): 4 pings sent, 0 answered:"
        " nothing comes back: a firewall on the way drops the packets",
        "      direct-filtered: Allow UDP between the two, and answers to what was sent (a stateful rule is enough)."
        " (the administrator of your network)",
        "  • 10.2.0.9:5000 (published): 1 ping sent, 0 answered: a private address of another network",
    ]
    assert lines[6] == "From the agent to here:"


def test_what_does_not_work_comes_in_plain_words() -> None:
    down = Report(replace(SERVER, failure=Failure.CONNECT, error="192.0.2.1 port 443: Connection refused"))
    assert list(findings_text.summary(down)) == [
        "✘ server: https://warren.example.com cannot be used: 192.0.2.1 port 443: Connection refused"
    ]
    assert findings_text.verdict(diagnose(down)) == "1 thing does not work."
    nobody = Report(replace(SERVER, signed_in=False))
    assert next(findings_text.summary(nobody)).endswith("answers, but you are not signed in")
    for workspace, text in (
        (WorkspaceCheck("dev", "stopped"), "✘ workspace: dev is stopped"),
        (
            WorkspaceCheck("dev", "running", "main", "timeout"),
            "✘ workspace: the agent of dev.main is timeout",
        ),
        (
            replace(WORKSPACE, relayed_latency_seconds=None, path=None),
            "✘ workspace: the agent of dev.main is connected, but cannot be reached through the tunnel",
        ),
    ):
        assert list(findings_text.summary(replace(HEALTHY, workspace=workspace)))[3] == text
    no_relay = replace(HEALTHY, relays=(replace(RELAY, failure=Failure.DNS, error="x"),))
    assert list(findings_text.summary(no_relay))[2] == "✘ relays: none of 1 can be reached"


def test_without_a_workspace_it_says_what_to_expect() -> None:
    alone = replace(HEALTHY, workspace=None)
    for report, start in (
        (alone, "✔ direct connections: nothing on this side"),
        (replace(alone, network=replace(LAPTOP, **HARD)), "⚠ direct connections will work with workspaces whose"),
        (replace(alone, stun=()), "⚠ direct connections will work only within one network"),
        (replace(alone, direct_disabled_here=True), "• direct connections are turned off"),
    ):
        assert list(findings_text.summary(report))[-1].startswith(start)


def test_the_whole_network_in_sentences() -> None:
    mapping = PortMapping("PCP", "8.8.4.4:7000", pcp=True)
    laptop = replace(
        LAPTOP, endpoints=("192.168.1.7:41641",), hairpinning=False, port_mapping=mapping, preferred_region=999
    )
    slow = replace(RELAY, node="b", upgrade_error="status 400")
    far = replace(RELAY, node="c", proxy="socks5://proxy:1080")
    report = replace(HEALTHY, network=laptop, stun=(STUN, SILENT), relays=(RELAY, slow, far))
    lines = [line.strip() for line in findings_text.network_lines(report)]
    for expected in (
        "STUN warren.example.com:3478: sees us as 8.8.4.4:41641 in 10ms",
        "STUN warren.example.com:3478: no answer",
        "relay Embedded (https://warren.example.com/derp): by upgrade and by WebSocket in 10ms",
        "relay Embedded (https://warren.example.com/derp): by upgrade and by WebSocket in 10ms, "
        "through the proxy socks5://proxy:1080",
        "relay Embedded (https://warren.example.com/derp): by WebSocket in 10ms; not by upgrade: status 400",
        "endpoint that workspaces are told: 192.168.1.7:41641",
        "hairpinning (our own public address, tried from inside): does not work",
        "port mapping: 8.8.4.4:7000 by PCP",
        "IPv6 is turned off on this machine",
    ):
        assert expected in lines
    assert POD.port_mapping is None
