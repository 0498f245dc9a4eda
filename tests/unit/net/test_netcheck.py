"""The report that upstream's tools read."""

import json
from dataclasses import replace
from typing import Any

import msgspec

from tests.unit.net.test_diagnosis import LAPTOP, RELAY, SILENT, STUN
from warren.net import netcheck
from warren.net.derp_map import DERPMap, DERPNode, DERPRegion
from warren.net.network_report import Failure, Interface, PortMapping

NODE = DERPNode("999b", 999, "warren.example.com", stun_port=3478)
OTHER = DERPNode("999c", 999, "other.example.com", stun_port=-1)
MAP = DERPMap({999: DERPRegion(999, "coder", "Embedded", embedded_relay=True, nodes=(NODE,))})


def document(value: object) -> Any:  # Any: decoded JSON
    return json.loads(msgspec.json.encode(value))


def test_a_healthy_network() -> None:
    laptop = replace(LAPTOP, region_latency_seconds={"999-v4": 0.010, "999-v6": 0.008}, preferred_region=999)
    found = document(netcheck.report(laptop, MAP, (RELAY,), (STUN,)))
    assert set(found) == {"derp", "interfaces"}
    derp = found["derp"]
    assert (derp["healthy"], derp["severity"], derp["warnings"], derp["netcheck_logs"]) == (True, "ok", [], [])
    measured = derp["netcheck"]
    assert measured["RegionLatency"] == {"999": 8_000_000}
    assert measured["RegionV4Latency"] == {"999": 10_000_000}
    assert (measured["UDP"], measured["MappingVariesByDestIP"], measured["HairPinning"]) == (True, False, None)
    assert (measured["UPnP"], measured["PreferredDERP"], measured["CaptivePortal"]) == (None, 999, None)
    region = derp["regions"]["999"]
    assert region["region"]["RegionName"] == "Embedded"
    (node,) = region["node_reports"]
    assert node["round_trip_ping_ms"] == 10
    assert node["stun"] == {"Enabled": True, "CanSTUN": True, "Error": None}
    assert (node["can_exchange_messages"], node["uses_websocket"], node["client_errs"]) == (True, False, [])


def test_what_is_broken_says_so() -> None:
    down = replace(RELAY, failure=Failure.CONNECT, error="refused")
    derp = document(netcheck.derp(None, MAP, (down,), (SILENT,)))
    assert (derp["healthy"], derp["severity"], derp["netcheck"]) == (False, "error", None)
    assert derp["warnings"][0]["code"] == "ESTUN01"
    (node,) = derp["regions"]["999"]["node_reports"]
    assert (node["error"], node["can_exchange_messages"]) == ("refused", False)
    assert node["stun"] == {"Enabled": True, "CanSTUN": False, "Error": "no answer"}


def test_one_of_two_nodes_may_be_down() -> None:
    both = DERPMap({999: replace(MAP.regions[999], nodes=(NODE, OTHER))})
    down = replace(RELAY, node="999c", failure=Failure.CONNECT, error="refused")
    derp = document(netcheck.derp(None, both, (RELAY, down), (STUN,)))
    assert (derp["healthy"], derp["severity"]) == (True, "warning")


def test_websockets_hard_nats_and_routers() -> None:
    relay = replace(RELAY, upgrade_error="status 400")
    laptop = replace(LAPTOP, mapping_varies=True, port_mapping=PortMapping(pcp=False, upnp=True))
    derp = document(netcheck.derp(laptop, MAP, (relay,), (STUN,)))
    (node,) = derp["regions"]["999"]["node_reports"]
    assert node["uses_websocket"]
    assert node["warnings"][0]["message"].startswith(
        'Node uses WebSockets because the "Upgrade: DERP" header may be blocked on the load balancer.'
    )
    assert [warning["code"] for warning in derp["warnings"]] == ["ESTUN02"]
    assert (derp["netcheck"]["PCP"], derp["netcheck"]["PMP"], derp["netcheck"]["UPnP"]) == (False, None, True)


def test_interfaces_with_a_small_mtu() -> None:
    found = document(netcheck.interfaces((Interface("wg0", 1280, ("10.0.0.2/32",)), Interface("down", 0))))
    assert found["severity"] == "warning"
    assert [warning["code"] for warning in found["warnings"]] == ["EIF01"]
    assert found["interfaces"][0] == {"name": "wg0", "mtu": 1280, "addresses": ["10.0.0.2/32"]}
