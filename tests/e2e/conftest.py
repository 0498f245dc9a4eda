"""A server, a template and a workspace, made with the shipped commands; shared by the stories that do not break it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.lab import Lab, lab


@pytest.fixture(scope="session")
def running() -> Iterator[Lab]:
    """A server with workspace `dev` of the starter template `local`."""
    with lab() as place:
        place.start()
        place.login()
        place.template()
        place.workspace()
        yield place


@pytest.fixture(scope="session")
def ssh_config(running: Lab) -> Path:
    """What `config-ssh` writes, in a file of its own."""
    path = running.folder / "ssh_config"
    running.run("config-ssh", "--yes", "--ssh-config-file", str(path))
    return path


@pytest.fixture
def own() -> Iterator[Lab]:
    """A server that a story may break."""
    with lab() as place:
        place.start()
        place.login()
        yield place
