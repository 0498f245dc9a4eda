"""The rules of gateways."""

from warren.netlab.kinds import Filtering, Mapping, Outbound
from warren.netlab.rules import Gateway, ruleset

OUTSIDE = "198.51.100.11"


def _chain(text: str, name: str) -> list[str]:
    """The rules of one chain."""
    _, _, rest = text.partition(f"chain {name} {{\n")
    return [line.strip() for line in rest.partition("\n    }")[0].splitlines()[1:]]


def test_a_home_nat_keeps_ports_and_lets_in_answers_only() -> None:
    text = ruleset(Gateway(OUTSIDE))
    assert _chain(text, "post") == ['meta nfproto ipv4 oifname "wan" masquerade']
    assert _chain(text, "pre") == []
    assert "type filter hook forward priority filter; policy drop;" in text
    assert 'iifname "wan" drop' in _chain(text, "input")


def test_a_hard_nat_takes_another_port_each_time() -> None:
    text = ruleset(Gateway(OUTSIDE, mapping=Mapping.DEPENDENT))
    assert _chain(text, "post") == ['meta nfproto ipv4 oifname "wan" masquerade random,fully-random']


def test_strangers_come_in_where_the_filtering_says_so() -> None:
    everyone = _chain(ruleset(Gateway(OUTSIDE, filtering=Filtering.INDEPENDENT)), "pre")
    assert everyone == ['iifname "wan" meta nfproto ipv4 meta l4proto udp dnat ip to udp dport map @owners']
    known = _chain(ruleset(Gateway(OUTSIDE, filtering=Filtering.ADDRESS)), "pre")
    assert "ip saddr . udp dport @contacted" in known[0]


def test_a_firewall_without_nat_changes_no_address() -> None:
    text = ruleset(Gateway(OUTSIDE, mapping=Mapping.NONE))
    assert "masquerade" not in text
    assert "dnat ip" not in text


def test_a_hairpin_turns_packets_around_under_the_outer_address() -> None:
    text = ruleset(Gateway(OUTSIDE, hairpin=True))
    assert any(f"ip daddr {OUTSIDE}" in rule for rule in _chain(text, "pre"))
    assert any(f"snat ip to {OUTSIDE}" in rule for rule in _chain(text, "post"))


def test_what_may_not_go_out_is_dropped_first() -> None:
    assert _chain(ruleset(Gateway(OUTSIDE, outbound=Outbound.TCP)), "forward")[0] == "meta l4proto udp drop"
    assert "tcp dport != 443 drop" in _chain(ruleset(Gateway(OUTSIDE, outbound=Outbound.HTTPS)), "forward")[0]
    for closed in (Outbound.HTTP_PROXY, Outbound.TLS_PROXY, Outbound.SOCKS_PROXY, Outbound.INTERCEPTED):
        assert _chain(ruleset(Gateway(OUTSIDE, outbound=closed)), "forward")[0] == "drop"
    assert "redirect to :8443" in ruleset(Gateway(OUTSIDE, outbound=Outbound.INTERCEPTED))


def test_a_silent_line_says_nothing_of_large_packets_but_clamps_tcp() -> None:
    text = ruleset(Gateway(OUTSIDE, says_too_big=False, mtu=1300))
    assert "icmp type destination-unreachable drop" in _chain(text, "output")
    assert _chain(text, "forward")[0] == "tcp flags syn tcp option maxseg size set 1260"
    assert "chain output" not in ruleset(Gateway(OUTSIDE))
