"""The commands about templates, against a whole server with the real Terraform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.cli.runner import Runner
from tests.server import Site

pytestmark = pytest.mark.anyio

TEMPLATE = """
variable "greeting" {
  type = string
}
resource "terraform_data" "greeting" {
  input = var.greeting
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "hello"
    made.mkdir()
    (made / "main.tf").write_text(TEMPLATE)
    (made / "terraform.tfvars").write_text('secret = "1"\n')
    return made


@pytest.fixture
async def cli(building_server: Site, tmp_path: Path) -> Runner:
    variables = {"WARREN_URL": building_server.url, "WARREN_SESSION_TOKEN": building_server.admin.token}
    return Runner(tmp_path / "config", variables)


async def test_the_life_of_a_template(cli: Runner, folder: Path, tmp_path: Path) -> None:
    assert "No templates found!" in (await cli("templates", "list")).stderr
    pushed = await cli("templates", "push", "--yes", "--variable", "greeting=hi", "--name", "v1", cwd=folder)
    assert "The hello template has been created!" in pushed.stderr
    assert "no .terraform.lock.hcl" in pushed.stderr
    assert "terraform_data.greeting" in pushed.stderr
    assert pushed.stdout == ""

    words = ("templates", "push", "hello", "-d", str(folder), "--yes", "--ignore-lockfile", "--variable", "greeting=b")
    quiet = await cli(*words, "--name", "v2", "--activate=false", "-m", "second")
    assert "lock.hcl" not in quiet.stderr
    versions = json.loads((await cli("templates", "versions", "list", "hello", "-o", "json")).stdout)
    assert {item["TemplateVersion"]["name"]: item["active"] for item in versions} == {"v1": True, "v2": False}
    await cli("templates", "versions", "promote", "-t", "hello", "--template-version", "v2")
    table = (await cli("templates", "versions", "list", "hello", "-c", "name,active")).stdout.splitlines()
    assert [line.split() for line in table if "Active" in line] == [["v2", "Active"]]

    await cli("templates", "edit", "hello", "--display-name", "Hello", "--default-ttl", "8h", "--yes")
    (listed,) = json.loads((await cli("templates", "list", "-o", "json")).stdout)
    assert (listed["Template"]["display_name"], listed["Template"]["default_ttl_ms"]) == ("Hello", 28_800_000)

    await cli("templates", "pull", "hello", str(tmp_path / "pulled"), "--version", "v1")
    assert [path.name for path in (tmp_path / "pulled").iterdir()] == ["main.tf"]
    await cli("templates", "versions", "archive", "hello", "v1", "--yes")
    assert "v1" not in (await cli("templates", "versions", "list", "hello")).stdout
    assert "v1" in (await cli("templates", "versions", "list", "hello", "--include-archived")).stdout
    await cli("templates", "delete", "hello", "--yes")
    assert "no template `hello`" in (await cli("templates", "pull", "hello", status=1)).stderr


async def test_a_variable_without_a_value_is_named(cli: Runner, folder: Path) -> None:
    done = await cli("templates", "push", "-y", "-d", str(folder), status=1)
    assert "need" in done.stderr
    assert "values" in done.stderr
    assert "greeting" in done.stderr
    assert "hint: pass --variable name=value" in done.stderr


async def test_invalid_terraform_fails_with_file_and_line(cli: Runner, folder: Path) -> None:
    (folder / "main.tf").write_text('resource "x" {\n')
    done = await cli("templates", "push", "-y", "-d", str(folder), status=1)
    assert "main.tf" in done.stderr
    assert "Encountered an error running" in done.stderr


async def test_folders_that_are_no_templates(cli: Runner, tmp_path: Path) -> None:
    done = await cli("templates", "push", "-y", "-d", str(tmp_path / "none"), status=1)
    assert "is not a folder" in done.stderr
    (tmp_path / "empty").mkdir()
    done = await cli("templates", "push", "-y", "-d", str(tmp_path / "empty"), status=1)
    assert "has no *.tf file" in done.stderr


async def test_starter_templates_are_written_and_never_over_others(cli: Runner, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    await cli("templates", "init", "--id", "local", str(target))
    assert (target / "main.tf").is_file()
    assert "is not empty" in (await cli("templates", "init", "--id", "local", str(target), status=1)).stderr
    done = await cli("templates", "init", "--id", "nope", str(tmp_path / "other"), status=1)
    assert "there are docker, kubernetes, local" in done.stderr
