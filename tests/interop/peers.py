"""Programs that others wrote: built once, kept for all runs, and run beside ours."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.ports import free_port

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "warren" / "peers"
PROVIDER_VERSION = "2.19.0"
KUBERNETES_PROVIDER = "WARREN_KUBERNETES_PROVIDER"
"""Names the program, which tests cannot make: the module proxy has no version that is new enough."""
START_SECONDS = 10


def built(program: str) -> Path:
    """Give a program, built if need be; skip the test that asks where it cannot be had."""
    path = FOLDER / program
    if shutil.which("go") is None:
        if path.exists():
            return path
        pytest.skip(f"Go, which builds {program}, is not installed")
    FOLDER.mkdir(parents=True, exist_ok=True)
    # Other workers may want it at the same moment: who comes second finds it built. The script knows what is current.
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [Path(__file__).with_name("peers.sh"), FOLDER, program]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{program} could not be built: {done.stderr[-300:]}")
    return path


def opentofu() -> Path:
    """Give OpenTofu, where it is installed or was built on purpose; skip the test that asks where it is not."""
    path = shutil.which("tofu")
    found = Path(path) if path else FOLDER / "tofu"
    if not found.exists():
        pytest.skip(f"OpenTofu is not installed, nor was it built: tests/interop/peers.sh {FOLDER} tofu")
    return found


def provider_mirror(folder: Path) -> Path:
    """Have the published provider where `terraform init` finds it; give Terraform's configuration file."""
    return mirror(folder, "coder/coder", PROVIDER_VERSION, built("terraform-provider-coder"))


def mirror(folder: Path, source: str, version: str, program: Path) -> Path:
    """Have a provider, such as `coder/coder`, where `terraform init` finds it; give Terraform's configuration file."""
    place = folder / "mirror/registry.terraform.io" / source / version / "linux_amd64"
    place.mkdir(parents=True)
    (place / f"terraform-provider-{source.rpartition('/')[2]}_v{version}").symlink_to(program.absolute())
    config = folder / "terraform.rc"
    config.write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{folder}/mirror"\n  }}\n}}\n'
        "disable_checkpoint = true\n"
    )
    return config


@dataclass(frozen=True, slots=True)
class Derper:
    """A running relay of Tailscale's."""

    port: int
    stun_port: int
    process: subprocess.Popen[bytes]

    def region(self, region_id: int) -> dict[str, object]:
        """Describe it as a region of a map of relays."""
        node = {
            "Name": f"{region_id}a",
            "RegionID": region_id,
            "HostName": "127.0.0.1",
            "DERPPort": self.port,
            "STUNPort": self.stun_port,
            "ForceHTTP": True,
        }
        return {"RegionID": region_id, "RegionCode": "derper", "RegionName": "Tailscale's derper", "Nodes": [node]}

    def packets(self) -> int:
        """Say how many packets of clients it has passed on."""
        with httpx.Client() as client:
            return int(client.get(f"http://127.0.0.1:{self.port}/debug/vars").json()["derp"]["packets_sent"])


@contextmanager
def run_derper(folder: Path) -> Generator[Derper]:
    """Run a `derper` on loopback, without TLS."""
    program = built("derper")
    port, stun_port = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    arguments = ["-a", f"127.0.0.1:{port}", "-http-port", "-1", "-stun-port", str(stun_port), "-c", "derper.json"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([program, *arguments], cwd=folder, stdout=log, stderr=log) as process,
    ):
        try:
            transport = httpx.HTTPTransport(retries=START_SECONDS)
            with httpx.Client(transport=transport, timeout=START_SECONDS) as client:
                assert client.get(f"http://127.0.0.1:{port}/derp/latency-check").status_code == 200
            yield Derper(port, stun_port, process)
        finally:
            process.terminate()
