"""The starter templates that are shipped."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from warren import starter_templates
from warren.domain import archive
from warren.errors import NotFound
from warren.provisioner import hcl
from warren.provisioner.archive import unpack
from warren.provisioner.parse import parse_folder


def test_they_are_described() -> None:
    found = {example.id: example for example in starter_templates.examples()}
    assert sorted(found) == ["docker", "kubernetes", "local"]
    docker = found["docker"]
    assert docker.name == "Docker containers"
    assert docker.icon == "/icon/docker.png"
    assert docker.tags == ("docker", "container")
    assert docker.markdown.startswith("# Workspaces in Docker containers\n")
    assert all(example.description for example in found.values())


@pytest.mark.parametrize("example", starter_templates.examples(), ids=lambda example: example.id)
def test_they_can_be_uploaded_and_read(example: starter_templates.Example, tmp_path: Path) -> None:
    archive.check(example.archive)
    unpack(example.archive, tmp_path)
    parsed = parse_folder(tmp_path)
    assert parsed.readme.startswith(b"---\n")
    body = hcl.parse((tmp_path / "main.tf").read_text())
    kinds = {block.labels[0] for block in body.blocks if block.type == "resource"}
    assert "coder_agent" in kinds
    assert any(not kind.startswith("coder_") for kind in kinds)


def test_the_archives_hold_nothing_but_the_template() -> None:
    for example in starter_templates.examples():
        with tarfile.open(fileobj=io.BytesIO(example.archive)) as packed:
            assert packed.getnames() == ["README.md", "main.tf"]


def test_the_deploy_folder_shows_them() -> None:
    link = Path(__file__).parents[2] / "deploy" / "templates"
    assert (link / "local" / "main.tf").samefile(Path(starter_templates.__file__).parent / "local" / "main.tf")


def test_an_unknown_one() -> None:
    with pytest.raises(NotFound, match="no starter template `moon`") as raised:
        starter_templates.find("moon")
    assert raised.value.hint == "there are: docker, kubernetes, local"
