"""A port of the gateway's: asked for, published, given back. The gateways are real ones where the machine has any."""

import json
import shutil

import pytest

from tests.integration.engine.gateway_lab import EXTERNAL, OWN, PORT
from tests.integration.engine.test_paths import in_namespace


def behind(kind: str) -> dict[str, object]:
    if kind in ("pcp", "upnp") and not (shutil.which("miniupnpd") and shutil.which("nft")):
        pytest.skip("this machine has no miniupnpd with nftables")
    found: dict[str, object] = json.loads(in_namespace("-m", "tests.integration.engine.gateway_lab", kind))
    return found


@pytest.mark.parametrize(("kind", "protocol"), [("pcp", "PCP"), ("upnp", "UPnP")])
def test_miniupnpd_maps_the_port_and_gets_it_back(kind: str, protocol: str) -> None:
    found = behind(kind)
    assert (found["protocol"], found["external"], found["reason"]) == (protocol, f"{EXTERNAL}:{PORT}", "")
    assert found["mapped"], "the gateway forwards it"
    assert found["endpoints"] == [f"{EXTERNAL}:{PORT}", f"{OWN}:{PORT}"]


def test_a_gateway_that_speaks_nat_pmp_only() -> None:
    found = behind("nat-pmp")
    assert (found["protocol"], found["external"]) == ("NAT-PMP", f"{EXTERNAL}:{PORT + 1}")
    assert found["nat_pmp"] is True


def test_a_gateway_that_refuses_is_quoted() -> None:
    found = behind("refuses")
    assert (found["protocol"], found["external"], found["pcp"], found["upnp"]) == ("", "", True, False)
    assert found["reason"] == "the gateway granted no port (PCP: result 2)"


def test_a_gateway_that_maps_no_ports_costs_nothing_and_is_said() -> None:
    found = behind("silent")
    assert found["reason"] == "none of PCP, NAT-PMP, UPnP answered"
    assert [found[name] for name in ("pcp", "nat_pmp", "upnp")] == [False, False, False]
    assert found["endpoints"] == [f"{OWN}:{PORT}"]
