from __future__ import annotations

import json
import subprocess
import sys

import pytest

NAMESPACE = ["unshare", "--user", "--map-root-user", "--net"]


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    """Give the command that enters a user and network namespace in which more of them may be made."""
    try:
        subprocess.run([*NAMESPACE, "ip", "link", "set", "lo", "up"], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(f"a tool is missing: {error.filename}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not allowed here: {error.stderr}")
    return NAMESPACE


def test_a_direct_path_that_dies_costs_half_a_second(namespace: list[str]) -> None:
    command = [*namespace, sys.executable, "-m", "tests.integration.relay.failover", "all"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=100).stdout)

    # 0.45 s on an idle machine; busy ones get much slack.
    assert found["switch_seconds"] < 15, found
    assert found["stall_seconds"] < 15, found
    assert found["lost"] == 0, found
