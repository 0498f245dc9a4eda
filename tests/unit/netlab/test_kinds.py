"""Which path each pair of networks must get."""

import itertools

import pytest

from warren.netlab.kinds import BY_NAME, KINDS, Path, expected


@pytest.mark.parametrize(
    ("one", "other", "path", "why"),
    [
        ("public", "hard", Path.DIRECT, "public can be reached by anyone"),
        ("easy", "easy", Path.DIRECT, "each side's endpoint is known and both send first"),
        ("firewall", "cgnat", Path.DIRECT, "each side's endpoint is known and both send first"),
        ("hard", "hard", Path.RELAY, "both NATs use another port for each destination, so neither endpoint is known"),
        ("easy", "hard", Path.RELAY, "hard sends from a port that nobody knows, and easy lets in known ports only"),
        (
            "hard",
            "firewall",
            Path.RELAY,
            "hard sends from a port that nobody knows, and firewall lets in known ports only",
        ),
        ("full-cone", "hard", Path.DIRECT, "full-cone lets in packets from a port that it has not written to"),
        ("hard", "restricted", Path.DIRECT, "restricted lets in packets from a port that it has not written to"),
        ("udp-blocked", "public", Path.RELAY, "udp-blocked lets out TCP only"),
        ("public", "https-only", Path.RELAY, "https-only lets out TCP to port 443 only"),
        ("public", "http-proxy", Path.RELAY, "http-proxy lets out an HTTP proxy only"),
        ("public", "tls-proxy", Path.RELAY, "tls-proxy lets out an HTTP proxy reached by TLS only"),
        ("socks-proxy", "easy", Path.RELAY, "socks-proxy lets out a SOCKS proxy only"),
        ("easy", "v6-only", Path.RELAY, "easy has IPv4 only and v6-only has IPv6 only"),
        ("dual", "v6-only", Path.DIRECT, "both have IPv6, and firewalls let answers in"),
        ("dual", "hard", Path.RELAY, "hard sends from a port that nobody knows, and dual lets in known ports only"),
        ("low-mtu-silent", "easy", Path.DIRECT, "each side's endpoint is known and both send first"),
    ],
)
def test_a_pair_gets_its_path_and_the_reason(one: str, other: str, path: Path, why: str) -> None:
    wanted = expected(BY_NAME[one], BY_NAME[other])
    assert (wanted.path, wanted.why) == (path, why)


def test_the_order_of_a_pair_does_not_matter() -> None:
    for one, other in itertools.product(KINDS, KINDS):
        assert expected(one, other).path is expected(other, one).path


def test_every_kind_gets_somewhere_direct_unless_udp_is_blocked() -> None:
    for kind in KINDS:
        assert kind.udp == any(expected(kind, other).path is Path.DIRECT for other in KINDS)
