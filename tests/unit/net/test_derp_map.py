from __future__ import annotations

import json
from dataclasses import replace

import pytest

from warren.errors import Invalid
from warren.net import derp_map
from warren.net.derp_map import DERPMap, DERPNode, DERPRegion, EmbeddedRegion

EMBEDDED = EmbeddedRegion("https://warren.example")
CUSTOM = {
    "Regions": {
        "1": {
            "RegionID": 1,
            "RegionCode": "nyc",
            "RegionName": "New York",
            "Nodes": [
                {"Name": "1a", "RegionID": 1, "HostName": "derp1.example"},
                {"Name": "1s", "RegionID": 1, "HostName": "stun1.example", "STUNOnly": True},
            ],
        }
    }
}


def test_builds_the_embedded_region_and_stun_regions() -> None:
    built = derp_map.build(EMBEDDED, stun_addresses=["stun.example:19302", "[2001:db8::1]:3478"])

    assert built.to_json() == {
        "Regions": {
            "999": {
                "EmbeddedRelay": True,
                "RegionID": 999,
                "RegionCode": "coder",
                "RegionName": "Coder Embedded Relay",
                "Nodes": [
                    {"Name": "999b", "RegionID": 999, "HostName": "warren.example", "STUNPort": -1, "DERPPort": 443}
                ],
            },
            "1000": {
                "EmbeddedRelay": False,
                "RegionID": 1000,
                "RegionCode": "coder_stun_1000",
                "RegionName": "Coder STUN 1000",
                "Nodes": [
                    {
                        "Name": "1000stun0",
                        "RegionID": 1000,
                        "HostName": "stun.example",
                        "STUNPort": 19302,
                        "STUNOnly": True,
                    }
                ],
            },
            "1001": {
                "EmbeddedRelay": False,
                "RegionID": 1001,
                "RegionCode": "coder_stun_1001",
                "RegionName": "Coder STUN 1001",
                "Nodes": [
                    {
                        "Name": "1001stun0",
                        "RegionID": 1001,
                        "HostName": "2001:db8::1",
                        "STUNPort": 3478,
                        "STUNOnly": True,
                    }
                ],
            },
        }
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:3000", ("127.0.0.1", 3000, True)),
        ("http://warren.example", ("warren.example", 80, True)),
        ("https://warren.example/", ("warren.example", 443, False)),
        ("https://[2001:db8::1]:8443", ("2001:db8::1", 8443, False)),
    ],
)
def test_the_embedded_relay_is_at_the_access_url(url: str, expected: tuple[str, int, bool]) -> None:
    node = derp_map.build(EmbeddedRegion(url, stun_port=3478)).regions[999].nodes[0]

    assert (node.host_name, node.derp_port, node.force_http) == expected
    assert node.stun_port == 3478


def test_the_word_disable_leaves_out_stun_regions() -> None:
    assert list(derp_map.build(EMBEDDED, stun_addresses=["stun.example:1", "disable"]).regions) == [999]


def test_without_own_and_loaded_regions_the_map_is_empty() -> None:
    assert derp_map.build(None, stun_addresses=["stun.example:1"]) == DERPMap()


def test_merges_a_loaded_map() -> None:
    built = derp_map.build(EMBEDDED, loaded=derp_map.parse(CUSTOM), loaded_from="/etc/derp.json")

    assert sorted(built.regions) == [1, 999]


def test_without_an_embedded_region_there_are_no_stun_regions() -> None:
    assert list(derp_map.build(None, stun_addresses=["stun.example:1"], loaded=derp_map.parse(CUSTOM)).regions) == [1]


def test_a_loaded_region_may_not_have_our_number() -> None:
    loaded = DERPMap({999: DERPRegion(999, "x", "X", nodes=(DERPNode("x", 999, "x.example"),))})

    with pytest.raises(Invalid) as caught:
        derp_map.build(EMBEDDED, loaded=loaded, loaded_from="https://x.example/derp")

    assert caught.value.message == (
        'a default region ID 999 (coder - "Coder Embedded Relay") conflicts with a remote region from '
        '"https://x.example/derp"'
    )


def test_blocking_direct_paths_takes_out_all_stun() -> None:
    built = derp_map.build(
        replace(EMBEDDED, stun_port=3478),
        stun_addresses=["stun.example:1"],
        loaded=derp_map.parse(CUSTOM),
        block_direct=True,
    )

    assert sorted(built.regions) == [1, 999]
    nodes = [node for region in built.regions.values() for node in region.nodes]
    assert [node.name for node in nodes] == ["1a", "999b"]
    assert {node.stun_port for node in nodes} == {-1}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("stun.example", 'create stun regions: split host port for "stun.example"'),
        (":3478", 'create stun regions: split host port for ":3478"'),
        ("stun.example:x", 'create stun regions: parse port for "stun.example:x"'),
        ("stun.example:70000", 'create stun regions: parse port for "stun.example:70000"'),
    ],
)
def test_refuses_malformed_stun_addresses(address: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        derp_map.build(EMBEDDED, stun_addresses=[address])


def test_refuses_maps_without_relays() -> None:
    stun_only = DERPMap({5: DERPRegion(5, "s", "S", nodes=(DERPNode("5s", 5, "stun.example", stun_only=True),))})

    with pytest.raises(Invalid, match=r"^DERP map has no regions\."):
        derp_map.build(None, loaded=DERPMap())
    with pytest.raises(Invalid, match=r"^DERP map has no DERP nodes\."):
        derp_map.build(None, loaded=stun_only)


def test_reads_back_what_it_writes() -> None:
    node = DERPNode("7a", 7, "h", "c", "192.0.2.1", "none", -1, False, 8443, True, True, "192.0.2.2", True)
    original = DERPMap({7: DERPRegion(7, "r", "R", avoid=True, nodes=(node,))}, {7: 0.5}, omit_default_regions=True)

    assert derp_map.parse(json.loads(json.dumps(original.to_json()))) == original


def test_reads_names_in_any_case_and_ignores_unknown_ones() -> None:
    document: object = {
        "regions": {"1": {"regionid": 1, "regionCODE": "x", "NODES": [{"name": "a", "hostname": "h", "new": 1}]}},
        "HomeParams": {"RegionScore": {"1": 2}},
        "future": True,
    }

    parsed = derp_map.parse(document)

    assert parsed.regions[1].nodes == (DERPNode("a", 0, "h"),)
    assert parsed.region_score == {1: 2.0}
    assert derp_map.parse(None) == derp_map.parse({"Regions": None}) == DERPMap()


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"Regions": []},
        {"Regions": {"1": {"RegionID": 2}}},
        {"Regions": {"x": {"RegionID": 1}}},
        {"Regions": {"70000": {"RegionID": 70000}}},
        {"Regions": {"1": {"RegionID": "1"}}},
        {"Regions": {"1": {"RegionID": True}}},
        {"Regions": {"1": {"RegionID": 1, "Nodes": {}}}},
        {"Regions": {"1": {"RegionID": 1, "Nodes": [1]}}},
        {"Regions": {"1": {"RegionID": 1, "Nodes": [{"DERPPort": 1.5}]}}},
        {"HomeParams": {"RegionScore": {"1": "x"}}},
    ],
)
def test_refuses_malformed_documents(document: object) -> None:
    with pytest.raises(Invalid):
        derp_map.parse(document)


def test_points_embedded_relays_to_where_the_client_reached_us() -> None:
    built = derp_map.build(EMBEDDED, stun_addresses=["stun.example:1"], loaded=derp_map.parse(CUSTOM))

    rewritten = derp_map.rewrite_embedded(built, "http://10.0.0.5:3000/path")

    node = rewritten.regions[999].nodes[0]
    assert (node.host_name, node.derp_port, node.force_http) == ("10.0.0.5", 3000, True)
    assert rewritten.regions[1] == built.regions[1]
    assert rewritten.regions[1000] == built.regions[1000]
    with pytest.raises(Invalid):
        derp_map.rewrite_embedded(built, "ftp://x")


def test_compares_what_matters_to_a_client() -> None:
    left = derp_map.build(EMBEDDED, loaded=derp_map.parse(CUSTOM))
    region = left.regions[1]
    first = region.nodes[0]

    def with_region(changed: DERPRegion) -> DERPMap:
        return replace(left, regions={**left.regions, 1: changed})

    def with_node(changed: DERPNode) -> DERPMap:
        return with_region(replace(region, nodes=(changed, *region.nodes[1:])))

    assert derp_map.same(left, replace(left, region_score={1: 2.0}))
    assert derp_map.same(left, with_region(replace(region, nodes=region.nodes[::-1])))
    assert derp_map.same(left, with_node(replace(first, can_port_80=True)))
    assert not derp_map.same(left, with_node(replace(first, derp_port=1)))
    assert not derp_map.same(left, with_region(replace(region, region_name="other")))
    assert not derp_map.same(left, with_region(replace(region, nodes=region.nodes[:1])))
    assert not derp_map.same(left, replace(left, omit_default_regions=True))
    assert not derp_map.same(left, DERPMap())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"HostName": ""}, "region 1, node `1a`: HostName is missing"),
        ({"RegionID": 2}, "RegionID 2 is that of another region"),
        ({"DERPPort": 70000}, "DERPPort 70000 is no port"),
        ({"DERPPort": -1}, "DERPPort -1 is no port"),
        ({"STUNPort": -2}, "STUNPort -2 is no port"),
    ],
)
def test_a_map_that_no_client_could_use_is_refused(change: dict[str, object], message: str) -> None:
    node = {"Name": "1a", "RegionID": 1, "HostName": "derp1.example"} | change
    written = derp_map.parse({"Regions": {"1": {"RegionID": 1, "Nodes": [node]}}})
    with pytest.raises(Invalid, match=message):
        derp_map.check(written)


def test_node_names_are_unique_across_regions_but_absent_ones_do_not_count() -> None:
    def written(name: str) -> DERPMap:
        region = {"Nodes": [{"Name": name, "HostName": "derp.example"}]}
        return derp_map.parse({"Regions": {"1": {"RegionID": 1, **region}, "2": {"RegionID": 2, **region}}})

    derp_map.check(written(""))
    derp_map.check(derp_map.parse(CUSTOM))
    with pytest.raises(Invalid, match="region 2, node `x`: region 1 has a node of that name"):
        derp_map.check(written("x"))
