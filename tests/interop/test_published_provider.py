"""Our provider in process and the published one: the same schemas, plans, states and resources."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from tests.archives import tar
from tests.interop.peers import provider_mirror
from tests.interop.refusals import REFUSED, TOLD_OTHERWISE
from warren.clock import SystemClock
from warren.errors import WarrenError
from warren.provisioner import binary, logs, planned
from warren.provisioner.coder_provider.parameter import environment_name
from warren.provisioner.coder_provider.server import serve_provider
from warren.provisioner.model import BuildMetadata, CoderProvider, Found, Inputs, Role, Transition
from warren.provisioner.process import Cancellation
from warren.provisioner.session import ProvisionerConfig, open_session
from warren.provisioner.workdir import Cache, JobNote

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HERE = Path(__file__).parent
TEMPLATES = {
    "rich": HERE.parent / "integration" / "provisioner" / "rich.tf",
    "everything": HERE / "everything.tf",
}
METADATA = BuildMetadata(
    access_url="http://127.0.0.1:3999",
    workspace_id="11111111-1111-1111-1111-111111111111",
    workspace_name="dev",
    owner="ann",
    owner_id="22222222-2222-2222-2222-222222222222",
    owner_email="ann@example.com",
    owner_groups=("Everyone",),
    owner_roles=(Role("member"), Role("organization-member", "44444444-4444-4444-4444-444444444444")),
    owner_login_type="password",
    template_id="33333333-3333-3333-3333-333333333333",
    template_name="t",
    template_version="v1",
)
_CODER = 'terraform {\n  required_providers {\n    coder = { source = "coder/coder" }\n  }\n}\n'
_UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return provider_mirror(tmp_path)


async def build(
    provider: CoderProvider,
    source: bytes,
    cache: Path,
    config_file: Path,
    parameters: Mapping[str, str],
    *,
    terraform: Path | None = None,
) -> list[tuple[Found, object]]:
    """Start, start again, stop; give what the plan told first, and then each state, with all attributes."""
    host = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    config = ProvisionerConfig(
        Cache(cache), {**host, "TF_CLI_CONFIG_FILE": str(config_file)}, coder_provider=provider, exit_seconds=5
    )
    config.cache.prepare()
    program = await binary.find(terraform, os.environ["PATH"])
    found: list[tuple[Found, object]] = []
    state = b""
    for number, transition in enumerate((Transition.START, Transition.START, Transition.STOP)):
        folder = config.cache.begin(f"00000000-0000-0000-0000-00000000000{number}", JobNote("test", "workspace_build"))
        lines: list[str] = []
        async with open_session(
            config,
            program,
            folder,
            source,
            Cancellation(),
            SystemClock(),
            lambda _, line, lines=lines: lines.append(line.output),
        ) as session:
            try:
                await session.init(fresh=False)
                inputs = Inputs(replace(METADATA, transition=transition), parameters, external_auth_tokens={"git": "t"})
                plan = await session.plan(inputs, state, document=True)
            except WarrenError as error:
                raise AssertionError("\n".join([*lines, error.message])) from error
            if number == 0:
                found.append((await session.found_in_plan(plan.document), None))
            applied = await session.apply(inputs.metadata, stage="apply")
            assert not applied.failure, "\n".join(lines)
            state = applied.state
            found.append((await session.found_in_state(state), attributes_of(state)))
    return found


def attributes_of(state: bytes) -> object:
    """Give all attributes of all instances, without what is random; empty and unset mean the same."""
    return {
        instance.address: without_empty(json.loads(_UUID.sub("<uuid>", json.dumps(instance.values))))
        for instance in planned.from_state_file(state)
    }


def without_empty(value: object) -> object:
    """Leave out members that are empty."""
    if isinstance(value, dict):
        members: dict[str, object] = value  # pyright: ignore[reportUnknownVariableType]  of JSON
        kept = {key: without_empty(item) for key, item in members.items()}
        return {key: item for key, item in kept.items() if item not in (None, "", [], {}, 0, False)}
    if isinstance(value, list):
        items: list[object] = value  # pyright: ignore[reportUnknownVariableType]  of JSON
        return sorted((without_empty(item) for item in items), key=repr)
    return value


def comparable(found: Found) -> str:
    """Write down what was found, without what is random."""
    return _UUID.sub("<uuid>", repr(found)).replace("), ", "),\n")


@pytest.mark.parametrize("name", TEMPLATES)
async def test_both_give_the_same_resources(name: str, mirror: Path, tmp_path: Path) -> None:
    source = tar({"main.tf": TEMPLATES[name].read_text()})
    parameters = {"size": "3"} if name == "everything" else {"cpu": "4", "region": "us"}
    ours = await build(CoderProvider.BUILTIN, source, tmp_path / "ours", mirror, parameters)
    theirs = await build(CoderProvider.REGISTRY, source, tmp_path / "theirs", mirror, parameters)
    for (found, attributes), (other, other_attributes) in zip(ours, theirs, strict=True):
        assert comparable(found) == comparable(other)
        assert attributes == other_attributes
    assert ours[1][0].resources


async def test_both_have_the_same_schemas(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(_CODER)
    environment = {**os.environ, "TF_CLI_CONFIG_FILE": str(mirror)}

    async def schemas(more: Mapping[str, str]) -> object:
        await anyio.run_process(["terraform", "init", "-input=false"], cwd=tmp_path, env={**environment, **more})
        shown = await anyio.run_process(
            ["terraform", "providers", "schema", "-json"], cwd=tmp_path, env={**environment, **more}
        )
        document = json.loads(shown.stdout)["provider_schemas"]["registry.terraform.io/coder/coder"]
        return undescribed(document)

    async with serve_provider({}) as provider:
        ours = await schemas(provider.variables)
    theirs = await schemas({})
    assert ours == theirs


@pytest.mark.parametrize("part", range(4))
async def test_both_refuse_in_the_same_words(part: int, mirror: Path, tmp_path: Path) -> None:
    template = tmp_path / "main.tf"
    environment = {**os.environ, "TF_CLI_CONFIG_FILE": str(mirror), "CODER_AGENT_URL": "http://x"}
    await anyio.Path(template).write_text(_CODER)
    await anyio.run_process(["terraform", "init", "-input=false"], cwd=tmp_path, env=environment)
    for name in sorted(REFUSED)[part::4]:
        given, text = REFUSED[name]
        values = {} if given is None else {environment_name("p"): given}
        await anyio.Path(template).write_text(_CODER + text)
        async with serve_provider({**values, "CODER_AGENT_URL": "http://x"}) as provider:
            ours = await diagnostics(tmp_path, {**environment, **values, **provider.variables})
        theirs = await diagnostics(tmp_path, {**environment, **values})
        assert ours, name
        assert ours == theirs or name in TOLD_OTHERWISE, name


async def diagnostics(folder: Path, environment: Mapping[str, str]) -> set[tuple[str, str, str]]:
    """Plan, and give what was complained about."""
    result = await anyio.run_process(
        ["terraform", "plan", "-json", "-input=false"], cwd=folder, env=environment, check=False
    )
    events = [logs.parse(line) for line in result.stdout.decode().splitlines()]
    found = [event.diagnostic for event in events if event is not None and event.diagnostic is not None]
    return {(item.severity, item.summary, item.detail) for item in found}


def undescribed(value: object) -> object:
    """Leave out what is only for people."""
    if isinstance(value, dict):
        members: dict[str, object] = value  # pyright: ignore[reportUnknownVariableType]  of JSON
        words = {"description", "description_kind"}
        # A block of the provider may be named like one of the words, but then it is no text.
        return {key: undescribed(item) for key, item in members.items() if not (key in words and isinstance(item, str))}
    return value
