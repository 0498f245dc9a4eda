"""Variables, tags and README out of a template's files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from warren.errors import Invalid
from warren.provisioner.model import TemplateVariable
from warren.provisioner.parse import parse_folder


def folder(path: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def test_variables_in_the_order_of_files_and_lines(tmp_path: Path) -> None:
    parsed = parse_folder(
        folder(
            tmp_path,
            {
                "b.tf": 'variable "last" { type = bool\n default = true }',
                "a.tf": """
variable "first" {
  description = "what it is"
  type        = string
}
variable "second" {
  type      = map(list(string))
  default   = { b = ["x"], a = [] }
  sensitive = true
  validation {
    condition     = length(var.second) > 0
    error_message = "no"
  }
}
variable "third" { default = null }
variable "fourth" { default = "" }
""",
            },
        )
    )
    assert parsed.variables == (
        TemplateVariable("first", "what it is", "string", required=True),
        TemplateVariable("second", "", "map(list(string))", '{"a":[],"b":["x"]}', sensitive=True),
        TemplateVariable("third", required=True),
        TemplateVariable("fourth"),
        TemplateVariable("last", "", "bool", "true"),
    )


def test_json_templates(tmp_path: Path) -> None:
    text = '{"variable": {"a": {"type": "string", "default": "x"}, "b": [{"sensitive": true}]}}'
    parsed = parse_folder(folder(tmp_path, {"main.tf.json": text}))
    assert parsed.variables == (
        TemplateVariable("a", "", "string", "x"),
        TemplateVariable("b", required=True, sensitive=True),
    )


def test_nothing_to_find(tmp_path: Path) -> None:
    assert parse_folder(folder(tmp_path, {"main.tf": "", "x.txt": "{"})).variables == ()


def test_readme(tmp_path: Path) -> None:
    assert parse_folder(folder(tmp_path, {"README.md": "# Hi"})).readme == b"# Hi"


def test_tags_are_kept_as_they_are_written(tmp_path: Path) -> None:
    text = """
data "coder_workspace_tags" "one" {
  tags = {
    "zone" = data.coder_parameter.zone.value
    size   = "${var.a}-${upper("x")}" # why
    n      = 1
  }
}
data "coder_workspace_tags" "two" { tags = { more = f(a, { b = "}" }) } }
"""
    assert parse_folder(folder(tmp_path, {"main.tf": text})).tags == {
        "zone": "data.coder_parameter.zone.value",
        "size": '"${var.a}-${upper("x")}"',
        "n": "1",
        "more": 'f(a, { b = "}" })',
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'data "coder_workspace_tags" "t" {}',
            'can\'t load workspace tags: "tags" attribute is required by coder_workspace_tags',
        ),
        (
            'data "coder_workspace_tags" "t" { tags = merge(a) }',
            'can\'t load workspace tags: "tags" attribute is expected to be a key-value map',
        ),
        (
            'data "coder_workspace_tags" "t" { tags = { a = 1, "a" = 2 } }',
            'can\'t load workspace tags: workspace tag "a" is defined multiple times',
        ),
        ('variable "x" {\n  type =\n}', "load module: ERROR: Invalid expression (main.tf:2)"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse_folder(folder(tmp_path, {"main.tf": text}))
    assert raised.value.message == message
