"""The maps of the lab."""

import json

from warren.netlab.services import FAR, NEAR, STUN_ADDRESSES, RelayPlace, derp_map


def test_the_first_relay_is_the_nearest_and_has_the_stun_servers() -> None:
    written = json.loads(derp_map(places=(NEAR, FAR)))
    names = {number: [node["Name"] for node in region["Nodes"]] for number, region in written["Regions"].items()}
    assert names == {"998": ["998a"], "999": ["999a", "999s0", "999s1"]}
    assert len(STUN_ADDRESSES) == 2
    assert written["HomeParams"]["RegionScore"] == {"998": 1000.0}


def test_a_region_can_have_its_relay_elsewhere() -> None:
    (node, *_) = json.loads(derp_map(places=(RelayPlace(999, 8443),)))["Regions"]["999"]["Nodes"]
    assert (node["Name"], node["DERPPort"]) == ("999a", 8443)
