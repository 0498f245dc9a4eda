"""A client behind a gateway that maps ports, in two network namespaces. Run it inside an empty one.

`python -m tests.integration.engine.gateway_lab KIND` prints as JSON what the engine reports; KIND is

- `pcp`, `upnp`: `miniupnpd` with nftables, the second with PCP and NAT-PMP switched off;
- `nat-pmp`: a scripted gateway that speaks only that;
- `refuses`: one that speaks PCP and grants nothing;
- `silent`: a gateway that maps no ports.
"""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from pathlib import Path

from tests.integration.engine.harness import Node, derp_map
from tests.integration.engine.relaying import CLIENT
from warren import _engine

GATEWAY, OWN, EXTERNAL = "192.168.77.1", "192.168.77.2", "8.8.4.9"
"""The external address looks like one of the Internet: miniupnpd refuses others. Nothing leaves the namespaces."""
PORT = 41999
CHAINS = """
add table inet filter
add chain inet filter forward { type filter hook forward priority 0; }
add chain inet filter miniupnpd
add chain inet filter prerouting { type nat hook prerouting priority -100; }
add chain inet filter postrouting { type nat hook postrouting priority 100; }
add chain inet filter prerouting_miniupnpd
add chain inet filter postrouting_miniupnpd
add rule inet filter prerouting jump prerouting_miniupnpd
"""


def run(command: str) -> str:
    return subprocess.run(["sh", "-ec", command], check=True, capture_output=True, text=True).stdout


def until(ready: str, *, within: float = 20) -> None:
    """Wait for a command to succeed."""
    deadline = time.monotonic() + within
    while subprocess.run(["sh", "-c", ready], check=False, capture_output=True).returncode:
        assert time.monotonic() < deadline, f"`{ready}` did not succeed within {within} s"
        time.sleep(0.02)


@contextlib.contextmanager
def gateway(kind: str) -> Generator[int]:
    """Join this namespace to a gateway's; gives the process whose namespace it is."""
    with tempfile.TemporaryDirectory() as folder:
        run("ip link set lo up; ip link add v0 type veth peer name v1")
        command = ["unshare", "--net", sys.executable, "-m", __spec__.name, "--gateway", kind, folder]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        try:
            until(f"test -e {folder}/there")
            run(f"ip link set v1 netns {process.pid}")
            run(f"ip addr add {OWN}/24 dev v0; ip link set v0 up")
            until(f"test -e {folder}/ready")
            run(f"ip route add default via {GATEWAY}")
            yield process.pid
        finally:
            process.terminate()
            process.wait(10)


def serve(kind: str, folder: Path) -> None:
    """Be the gateway: what runs in the other namespace, until it is killed."""
    (folder / "there").touch()
    until("ip link show v1")
    run(f"ip link set lo up; ip addr add {GATEWAY}/24 dev v1; ip link set v1 up")
    run(f"ip link add wan type veth peer name isp; ip addr add {EXTERNAL}/24 dev wan")
    run("ip link set wan up; ip link set isp up; ip route add default dev wan")
    if kind in ("pcp", "upnp"):
        (folder / "chains").write_text(CHAINS)
        run(f"nft -f {folder}/chains")
        (folder / "conf").write_text(
            f"ext_ifname=wan\nlistening_ip=v1\nenable_natpmp={'yes' if kind == 'pcp' else 'no'}\nenable_upnp=yes\n"
            "secure_mode=yes\nupnp_table_name=filter\nupnp_nat_table_name=filter\nupnp_forward_chain=miniupnpd\n"
            "upnp_nat_chain=prerouting_miniupnpd\nupnp_nat_postrouting_chain=postrouting_miniupnpd\n"
            f"uuid=00000000-0000-0000-0000-000000000000\nallow 1024-65535 {OWN}/32 1024-65535\n"
        )
        os.set_blocking(sys.stdin.fileno(), True)
        (folder / "ready").touch()
        # Debugging mode keeps it in the foreground; its log goes nowhere.
        with (folder / "log").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.execvp("miniupnpd", ["miniupnpd", "-d", "-f", f"{folder}/conf", "-P", f"{folder}/pid"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        if kind != "silent":
            server.bind((GATEWAY, 5351))
        (folder / "ready").touch()
        if kind == "silent":
            time.sleep(60)
        while True:
            request, source = server.recvfrom(1100)
            answer = scripted(kind, request)
            (folder / "log").open("ab").write(request.hex().encode() + b"\n")
            if answer:
                server.sendto(answer, source)


def scripted(kind: str, request: bytes) -> bytes:
    """Answer as a gateway that speaks NAT-PMP only, or one that speaks PCP and refuses."""
    if request[0] == 2:
        if kind == "nat-pmp":
            return bytes([0, request[1] | 0x80, 0, 1]) + struct.pack(">I", 9)
        return bytes([2, request[1] | 0x80, 0, 2]) + request[4:8] + struct.pack(">I", 9) + bytes(12) + request[24:60]
    if kind != "nat-pmp":
        return b""
    if request == b"\0\0":
        return b"\0\x80\0\0" + struct.pack(">I", 9) + socket.inet_aton(EXTERNAL)
    internal, external, seconds = struct.unpack(">HHI", request[4:12])
    return b"\0\x81\0\0" + struct.pack(">IHHI", 9, internal, external and external + 1, seconds)


def rules(pid: int) -> str:
    return run(f"nsenter --net=/proc/{pid}/ns/net nft list chain inet filter prerouting_miniupnpd")


def report(kind: str) -> Mapping[str, object]:
    """Start an engine behind the gateway; return what it finds, and what is left when it has gone."""
    with gateway(kind) as pid:
        if kind in ("pcp", "upnp"):
            until(f"nsenter --net=/proc/{pid}/ns/net ss -Hlun | grep -q :1900")
        with Node(CLIENT, port_mapping=True, listen_port=PORT) as client:
            client.engine.set_derp_map(derp_map(1))
            token = client.engine.netcheck()

            def mine(event: _engine.Event) -> _engine.NetInfo | None:
                return event if isinstance(event, _engine.NetInfo) and event.token == token else None

            info = client.wait(mine, within=20)
            during = rules(pid) if kind in ("pcp", "upnp") else ""
        if kind in ("pcp", "upnp"):
            until(
                f"! nsenter --net=/proc/{pid}/ns/net nft list chain inet filter prerouting_miniupnpd | grep -q {PORT}"
            )
        mapping = info.port_mapping
        names = ("protocol", "external", "reason", "pcp", "nat_pmp", "upnp")
        return {name: getattr(mapping, name) for name in names} | {
            "endpoints": info.endpoints,
            "mapped": str(PORT) in during,
        }


def main() -> None:
    if sys.argv[1] == "--gateway":
        serve(sys.argv[2], Path(sys.argv[3]))
        return
    sys.stdout.write(json.dumps(report(sys.argv[1])))


if __name__ == "__main__":
    main()
