"""The starter templates for Docker and Kubernetes, against the providers that they name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from tests.interop.peers import KUBERNETES_PROVIDER, built, mirror
from warren import starter_templates
from warren.provisioner import environment
from warren.provisioner.archive import unpack
from warren.provisioner.coder_provider.server import serve_provider
from warren.provisioner.model import BuildMetadata, Inputs, Transition

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

METADATA = BuildMetadata(
    access_url="http://127.0.0.1:3999",
    workspace_id="11111111-1111-1111-1111-111111111111",
    workspace_name="Dev",
    owner="ann",
    owner_id="22222222-2222-2222-2222-222222222222",
    owner_email="ann@example.com",
    transition=Transition.START,
)
DOCKER_VERSION = KUBERNETES_VERSION = "99.0.0"  # of the mirror only: what is built has none


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Template:
    """A starter template, unpacked, with its provider in reach."""

    def __init__(self, name: str, folder: Path, config_file: Path) -> None:
        self.folder = folder / "template"
        self.folder.mkdir()
        unpack(starter_templates.find(name).archive, self.folder)
        host = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "KUBE"))}
        self._environment = {**host, "TF_CLI_CONFIG_FILE": str(config_file), "HOME": str(folder)}

    async def terraform(self, *words: str, variables: Mapping[str, str]) -> str:
        """Run Terraform; a failure shows what it said."""
        done = await anyio.run_process(
            ["terraform", *words], cwd=self.folder, env={**self._environment, **variables}, check=False
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return done.stdout.decode()

    async def check(self, transition: Transition, **variables: str) -> dict[str, dict[str, object]]:
        """Have the template validated and planned; give the planned values of what the provider makes."""
        build = environment.of_plan(Inputs(replace(METADATA, transition=transition)))
        terraform = {f"TF_VAR_{name}": value for name, value in variables.items()}
        async with serve_provider(build) as provider:
            told = {**build, **terraform, **provider.variables}
            await self.terraform("init", "-input=false", variables=told)
            judged = json.loads(await self.terraform("validate", "-json", variables=told))
            assert judged["diagnostics"] == []
            await self.terraform("plan", "-input=false", "-out=plan", variables=told)
            plan = json.loads(await self.terraform("show", "-json", "plan", variables=told))
        resources = plan["planned_values"]["root_module"]["resources"]
        return {each["address"]: each["values"] for each in resources if each["mode"] == "managed"}


async def test_docker_makes_a_volume_that_stays_and_a_container_that_does_not(tmp_path: Path) -> None:
    config = mirror(tmp_path, "kreuzwerker/docker", DOCKER_VERSION, built("terraform-provider-docker"))
    template = Template("docker", tmp_path, config)
    started = await template.check(Transition.START, image="example/image:1")
    container = started["docker_container.workspace[0]"]
    assert (container["name"], container["hostname"], container["image"]) == ("coder-ann-dev", "Dev", "example/image:1")
    volume = started["docker_volume.home"]
    assert volume["name"] == f"coder-{METADATA.workspace_id}-home"
    stopped = await template.check(Transition.STOP)
    assert sorted(set(started) - set(stopped)) == ["docker_container.workspace[0]"]


async def test_kubernetes_makes_a_claim_that_stays_and_a_deployment_that_does_not(tmp_path: Path) -> None:
    program = os.environ.get(KUBERNETES_PROVIDER)
    if not program:
        pytest.skip(f"{KUBERNETES_PROVIDER} does not name the provider, and the module proxy has no present version")
    config = mirror(tmp_path, "hashicorp/kubernetes", KUBERNETES_VERSION, Path(program))
    template = Template("kubernetes", tmp_path, config)
    started = await template.check(Transition.START, namespace="workspaces")
    claim = started["kubernetes_persistent_volume_claim_v1.home"]
    assert "10Gi" in json.dumps(claim)
    deployment = json.dumps(started["kubernetes_deployment_v1.workspace[0]"])
    assert f'"name": "coder-{METADATA.workspace_id}"' in deployment
    assert '"namespace": "workspaces"' in deployment
    stopped = await template.check(Transition.STOP, namespace="workspaces")
    assert sorted(set(started) - set(stopped)) == ["kubernetes_deployment_v1.workspace[0]"]
