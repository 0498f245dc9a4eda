"""A server that builds with the published provider instead of its own: `--coder-provider=registry`."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.lab import lab

from tests.interop.peers import provider_mirror

pytestmark = pytest.mark.slow


def test_a_workspace_of_the_published_provider_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = provider_mirror(tmp_path)
    runs = tmp_path / "runs"
    (program,) = (tmp_path / "mirror").rglob("terraform-provider-coder_v*")
    published = program.readlink()
    program.unlink()
    program.write_text(f'#!/bin/sh\necho run >>"{runs}"\nexec "{published}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(config))
    with lab() as place:
        place.start("--coder-provider=registry")
        place.login()
        place.template()
        place.workspace()
        assert runs.exists(), "the server used a provider of its own"

        assert place.run("ssh", "dev", "--", "echo $CODER_WORKSPACE_NAME | tee ~/note") == "dev\n"
        place.run("stop", "dev", "--yes")
        assert place.agent_pids() == []
        place.run("start", "dev", "--yes")
        assert place.run("ssh", "dev", "--", "cat ~/note") == "dev\n"
