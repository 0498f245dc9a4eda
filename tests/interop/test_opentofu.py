"""OpenTofu in the place of Terraform."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.lab import lab

from tests.archives import tar
from tests.interop.peers import opentofu
from tests.interop.test_published_provider import TEMPLATES, build, comparable
from warren.provisioner.model import CoderProvider

pytestmark = pytest.mark.slow


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize("name", TEMPLATES)
async def test_both_give_the_same_resources(name: str, tmp_path: Path) -> None:
    tofu = opentofu()
    source = tar({"main.tf": TEMPLATES[name].read_text()})
    parameters = {"size": "3"} if name == "everything" else {"cpu": "4", "region": "us"}
    config = tmp_path / "terraform.rc"
    config.write_text("disable_checkpoint = true\n")
    one = await build(CoderProvider.BUILTIN, source, tmp_path / "terraform", config, parameters)
    other = await build(CoderProvider.BUILTIN, source, tmp_path / "tofu", config, parameters, terraform=tofu)
    for (found, attributes), (other_found, other_attributes) in zip(one, other, strict=True):
        assert comparable(found) == comparable(other_found)
        assert attributes == other_attributes


def test_a_workspace_is_made_used_and_deleted() -> None:
    tofu = opentofu()
    with lab() as place:
        place.start("--terraform-path", str(tofu))
        place.login()
        place.template()
        place.workspace()
        assert place.run("ssh", "dev", "--", "echo made by tofu | tee ~/note") == "made by tofu\n"
        place.run("stop", "dev", "--yes")
        place.run("start", "dev", "--yes")
        assert place.run("ssh", "dev", "--", "cat ~/note") == "made by tofu\n"
        place.run("delete", "dev", "--yes")
