"""Every cause that a diagnosis can name: its stable code, how bad it is, what it means, what to do, who has to act.

`docs/reference/findings.md` is made from this table. Codes are what scripts and support rely on: add, never rename.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from warren.net.network_report import TUNNEL_PACKET_BYTES


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Something does not work: `warren doctor` ends with status 1."""
    WARNING = "warning"
    """All works, but slower or less surely than it could."""
    NOTE = "note"
    """Nothing is wrong: it explains what is seen."""


class Actor(StrEnum):
    """Who has to act."""

    YOU = "you"
    NETWORK = "the administrator of your network"
    AGENT_NETWORK = "the administrator of the workspace's network"
    OPERATOR = "the operator of the server"
    TEMPLATE = "the author of the template"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause. A finding may say more exactly what happened, how bad it is here, and who acts."""

    severity: Severity
    title: str
    fix: str
    actor: Actor


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

CAUSES: Mapping[str, Cause] = MappingProxyType(
    {
        # The control plane
        "not-signed-in": Cause(_E, "The server does not know you.", "warren login <url>", Actor.YOU),
        "dns-failed": Cause(
            _E,
            "The name of the server has no address here.",
            "Check the URL; a name that only an internal DNS server knows needs that network or its VPN.",
            Actor.YOU,
        ),
        "server-unreachable": Cause(
            _E,
            "The server cannot be reached.",
            "Check that the server runs, that the URL is right, and that a firewall lets this machine connect to it.",
            Actor.OPERATOR,
        ),
        "proxy-unreachable": Cause(
            _E,
            "The proxy named in the environment does not let us through.",
            "Correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY (or NO_PROXY, for servers inside), or have the proxy "
            "allow tunnels to the server.",
            Actor.NETWORK,
        ),
        "tls-untrusted": Cause(
            _E,
            "A certificate was issued by nobody whom this machine trusts.",
            "If the issuer is your company's proxy or your own authority: pass its certificate with "
            "--client-tls-ca-file (WARREN_CLIENT_TLS_CA_FILE). If you do not know the issuer, do not go on.",
            Actor.YOU,
        ),
        "tls-failed": Cause(
            _E,
            "TLS cannot be set up there.",
            "Check the URL: http:// if the server has no TLS, and its port. A middlebox that cuts TLS connections off "
            "has to let this server through.",
            Actor.YOU,
        ),
        "tls-dates": Cause(
            _E,
            "A certificate is expired or not yet valid by this machine's clock.",
            "Set this machine's clock; if it is right, the certificate must be renewed.",
            Actor.OPERATOR,
        ),
        "server-answer": Cause(
            _E,
            "What answers at the URL is not a Warren server.",
            "Check the URL; a captive portal or a proxy may answer in the server's place.",
            Actor.YOU,
        ),
        "server-problem": Cause(
            _W,
            "The server reports a problem of its own.",
            "See the server's health report (/api/v2/debug/health).",
            Actor.OPERATOR,
        ),
        "clock-skew": Cause(
            _W,
            "This machine's clock differs from the server's.",
            "Set the clock, best by NTP: certificates and tokens are judged by it.",
            Actor.YOU,
        ),
        "version-mismatch": Cause(
            _N, "This command and the server are of different versions.", "Install the server's version.", Actor.YOU
        ),
        "proxy-in-use": Cause(
            _N,
            "A proxy stands between this machine and the server or its relays.",
            "Nothing, while it works. A proxy carries no UDP: direct connections need UDP past it.",
            Actor.NOBODY,
        ),
        # Relays
        "no-relay": Cause(
            _E,
            "The server names no relay.",
            "Enable the built-in relay (--derp-server-enable) or name others (--derp-config-url, --derp-config-path).",
            Actor.OPERATOR,
        ),
        "relay-unreachable": Cause(
            _E,
            "A relay cannot be reached.",
            "Allow this machine to connect to it over TCP, or take it out of the map if it is gone.",
            Actor.NETWORK,
        ),
        "relay-websocket": Cause(
            _W,
            "A relay is reached by WebSocket only: something refuses or strips `Upgrade: DERP`.",
            "Have the proxy or load balancer in front of it pass the headers Upgrade and Connection unchanged.",
            Actor.OPERATOR,
        ),
        "relay-no-websocket": Cause(
            _N,
            "A relay takes `Upgrade: DERP` but no WebSocket.",
            "Nothing; only networks that strip the upgrade cannot use this relay.",
            Actor.OPERATOR,
        ),
        # This machine's network
        "udp-blocked": Cause(
            _W,
            "UDP does not leave this machine's network, so that everything goes by relay.",
            "Allow outgoing UDP (at least to the STUN servers and the workspaces), and the answers to it.",
            Actor.NETWORK,
        ),
        "udp-blocked-here": Cause(
            _W,
            "This machine itself does not let UDP packets out.",
            "Allow outgoing UDP in this machine's firewall.",
            Actor.YOU,
        ),
        "no-stun": Cause(
            _W,
            "The server names no STUN server, so that nobody learns their public address.",
            "Enable the built-in one (--stun-address) or name others (--derp-server-stun-addresses).",
            Actor.OPERATOR,
        ),
        "stun-unreachable": Cause(
            _W,
            "No STUN server answers, although UDP works.",
            "Check that the STUN servers run and that UDP reaches them; take those that are gone out of the settings.",
            Actor.OPERATOR,
        ),
        "stun-partly": Cause(
            _W,
            "Some STUN servers do not answer.",
            "Check that they run, or take them out of --derp-server-stun-addresses.",
            Actor.OPERATOR,
        ),
        "hard-nat": Cause(
            _W,
            "One side is behind a router that uses another public port for every destination (a hard NAT).",
            "Turn on PCP, NAT-PMP or UPnP in that router, or forward a UDP port to a fixed listen port; "
            "or relax the filter on the other side.",
            Actor.NETWORK,
        ),
        "hard-nat-both": Cause(
            _W,
            "Both sides are behind routers that use another public port for every destination (hard NATs).",
            "Make one side easier: endpoint-independent mapping, a port mapping (PCP, NAT-PMP, UPnP), a forwarded "
            "UDP port, or a VPN that both are in.",
            Actor.NETWORK,
        ),
        "no-hairpin": Cause(
            _W,
            "Both sides are behind one router, which does not send packets to its own public address back inside.",
            "Let the two networks behind the router reach each other, or turn on hairpinning (NAT loopback).",
            Actor.NETWORK,
        ),
        "low-mtu": Cause(
            _W,
            f"A network interface has an MTU below {TUNNEL_PACKET_BYTES} bytes, less than a full packet of the tunnel.",
            "Raise the MTU of the VPN or link where that is possible; packets are made smaller meanwhile.",
            Actor.NETWORK,
        ),
        # The other side
        "workspace-not-running": Cause(_E, "The workspace does not run.", "warren start <workspace>", Actor.YOU),
        "agent-offline": Cause(
            _E,
            "The workspace's agent is not connected to the server.",
            "See the build's log (warren logs <workspace>) and the agent's own log in the workspace.",
            Actor.TEMPLATE,
        ),
        "not-introduced": Cause(
            _E,
            "The server did not introduce us to the agent.",
            "Try again; if it stays so, the server's log says why the coordinator does not.",
            Actor.OPERATOR,
        ),
        "agent-unreachable": Cause(
            _E,
            "The agent is connected to the server, but nothing comes back from it through the tunnel.",
            "Check that the workspace reaches a relay (warren netcheck, run inside it).",
            Actor.TEMPLATE,
        ),
        "agent-udp-blocked": Cause(
            _W,
            "UDP does not leave the workspace's network, so that everything goes by relay.",
            "Allow outgoing UDP from workspaces, and the answers to it.",
            Actor.AGENT_NETWORK,
        ),
        "agent-no-endpoints": Cause(
            _W,
            "The agent names no address at which it could be reached directly.",
            "Give the workspace a network of its own besides loopback.",
            Actor.TEMPLATE,
        ),
        "agent-too-old": Cause(
            _N,
            "The agent cannot tell of its side of the network.",
            "Restart the workspace, which gives it the server's agent.",
            Actor.YOU,
        ),
        # The way between the two
        "direct-disabled-here": Cause(
            _N,
            "Direct connections are turned off on this machine (--disable-direct-connections).",
            "Leave the option out to allow them.",
            Actor.YOU,
        ),
        "direct-disabled-by-server": Cause(
            _N,
            "The server forbids direct connections (--block-direct-connections).",
            "Nothing, if that is meant.",
            Actor.OPERATOR,
        ),
        "direct-disabled-by-agent": Cause(
            _N, "The workspace's agent forbids direct connections.", "Nothing, if that is meant.", Actor.TEMPLATE
        ),
        "no-common-family": Cause(
            _W,
            "One side has IPv4 only and the other IPv6 only.",
            "Give one of them both, or let the relay carry the traffic.",
            Actor.NETWORK,
        ),
        "direct-filtered": Cause(
            _W,
            "Both sides send UDP, but no packet of one arrives at the other: a firewall in between drops them.",
            "Allow UDP between the two, and answers to what was sent (a stateful rule is enough).",
            Actor.NETWORK,
        ),
        "direct-pending": Cause(
            _N, "No direct path was tried yet.", "Run it again, or keep the connection in use.", Actor.NOBODY
        ),
    }
)
