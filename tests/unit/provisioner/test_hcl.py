"""The reader of Terraform's language: structure, literals, and where it is broken."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.provisioner import hcl


def test_blocks_attributes_and_comments() -> None:
    body = hcl.parse(
        """
# a comment with "quotes" and {
resource "a" b { // labels may be bare
  x = 1 /* two
  lines */
  y = [
    1, # }
    "]",
  ]
  nested { z = "}" }
}
single {}
"""
    )
    first, second = body.blocks
    assert (first.type, first.labels, first.line) == ("resource", ("a", "b"), 3)
    assert first.body.attributes["x"].expression == "1"
    assert first.body.attributes["x"].line == 4
    assert hcl.literal(first.body.attributes["y"].expression) == [1, "]"]
    assert first.body.blocks[0].body.attributes["z"].expression == '"}"'
    assert second.type == "single"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ('"a\\n\\"b\\" \\u00e9"', 'a\n"b" é'),
        ('"$${kept} %%{kept}"', "${kept} %{kept}"),
        ("12", 12),
        ("-1.5e2", -150.0),
        ("true", True),
        ("null", None),
        ("[1, [2], ]", [1, [2]]),
        ('{ a = 1, "b c" : "x"\n d = [] }', {"a": 1, "b c": "x", "d": []}),
        ("<<EOT\n  a\n b\nEOT\n", "  a\n b\n"),
        ("<<-EOT\n    a\n      b\n\n    EOT", "a\n  b\n\n"),
    ],
)
def test_literals(expression: str, value: object) -> None:
    assert hcl.literal(expression) == value


@pytest.mark.parametrize(
    "expression", ['"${a}"', "a.b", "f(1)", "1 + 1", "[a]", "{ (a) = 1 }", "<<EOT\n${a}\nEOT\n", "true ? 1 : 2", "{"]
)
def test_what_must_be_evaluated_is_no_literal(expression: str) -> None:
    with pytest.raises(hcl.NotLiteral):
        hcl.literal(expression)


@pytest.mark.parametrize(
    "expression",
    [
        'a ? "x" : "y"',
        '"${a ? "in \\"quotes\\"" : "}"} tail"',
        "{ for k, v in m : k => v if v != null }",
        "a == b && c >= d",
        "<<EOT\nanything } here\nEOT",
        "f(\n  1,\n  2\n)",
        'm["key"]',
    ],
)
def test_expressions_stay_text(expression: str) -> None:
    body = hcl.parse(f"x = {expression}\ny = 1\n")
    assert body.attributes["x"].expression == expression
    assert body.attributes["y"].expression == "1"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nb {\n  c = 2\n", 2),
        ("a {\n  b = \n}\n", 2),
        ('a = 1\nb = "open\n', 2),
        ("a = (1\n", 1),
        ("\n\n= 1\n", 3),
        ("a = 1\na = 2\n", 2),
        ("/* open", 1),
        ("a = <<EOT\nopen", 1),
        ("a b c\n", 1),
        ("x { y = ] }", 1),
    ],
)
def test_broken_structure_is_reported_with_its_line(text: str, line: int) -> None:
    with pytest.raises(hcl.HclError) as raised:
        hcl.parse(text)
    assert raised.value.line == line


def test_deep_nesting_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(hcl.HclError):
        hcl.parse("a {" * 5000)


@given(st.text(alphabet='a1"{}[]()=\n #/*<-$%\\,:.', max_size=60))
def test_any_text_gives_a_body_or_an_error(text: str) -> None:
    with suppress(hcl.HclError):
        hcl.parse(text)
