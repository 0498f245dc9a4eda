"""Read a template's variables, workspace tags and README, without running Terraform."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from warren.errors import NOT_JSON, Invalid
from warren.provisioner import hcl
from warren.provisioner.coder_provider.values import Value
from warren.provisioner.model import Parsed, TemplateVariable

_TAGS = "coder_workspace_tags"
_README = ("README.md", "readme.md", "Readme.md")


def parse_folder(folder: Path) -> Parsed:
    """Read the root module in `folder`.

    Raises:
        Invalid: a file is malformed (the message names file and line), or tags are declared wrongly.
    """
    variables: list[TemplateVariable] = []
    tags: dict[str, str] = {}
    for path in sorted(folder.glob("*.tf")):
        body = _body(path)
        variables.extend(_variable(block) for block in body.blocks if block.type == "variable" and block.labels)
        for block in body.blocks:
            if block.type == "data" and block.labels[:1] == (_TAGS,):
                _add_tags(block, tags)
    for path in sorted(folder.glob("*.tf.json")):
        variables.extend(_json_variables(path))
    return Parsed(tuple(variables), tags, _readme(folder))


def _body(path: Path) -> hcl.Body:
    try:
        return hcl.parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise Invalid(f"load module: ERROR: Invalid character encoding ({path.name}:1)") from error
    except hcl.HclError as error:
        raise Invalid(f"load module: ERROR: {error.summary} ({path.name}:{error.line})") from error


def _variable(block: hcl.Block) -> TemplateVariable:
    attributes = block.body.attributes
    default = _value(attributes.get("default"))
    kind = attributes.get("type")
    return TemplateVariable(
        name=block.labels[0],
        description=_text(_value(attributes.get("description"))),
        type="" if kind is None else _type(kind.expression),
        default=_text(default),
        required=default is None,
        sensitive=_value(attributes.get("sensitive")) is True,
    )


def _value(attribute: hcl.Attribute | None) -> hcl.Literal:
    if attribute is None:
        return None
    try:
        return hcl.literal(attribute.expression)
    except hcl.NotLiteral:
        return attribute.expression  # Terraform will say that it must be constant


def _type(expression: str) -> str:
    """Give a type as text; very old templates quote it."""
    try:
        quoted = hcl.literal(expression)
    except hcl.NotLiteral:
        return expression
    return quoted if isinstance(quoted, str) else expression


def _text(value: hcl.Literal) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _add_tags(block: hcl.Block, tags: dict[str, str]) -> None:
    attribute = block.body.attributes.get("tags")
    if attribute is None:
        raise Invalid(f'can\'t load workspace tags: "tags" attribute is required by {_TAGS}')
    try:
        entries = hcl.entries(attribute.expression)
    except (hcl.NotLiteral, hcl.HclError) as error:
        raise Invalid('can\'t load workspace tags: "tags" attribute is expected to be a key-value map') from error
    for raw, expression in entries:
        key = raw.strip('"')
        if key in tags:
            raise Invalid(f'can\'t load workspace tags: workspace tag "{key}" is defined multiple times')
        tags[key] = expression


def _json_variables(path: Path) -> Iterator[TemplateVariable]:
    try:
        document: Value = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise Invalid(f"load module: ERROR: {error.msg} ({path.name}:{error.lineno})") from error
    except NOT_JSON as error:
        raise Invalid(f"load module: ERROR: {error} ({path.name})") from error
    found = document.get("variable") if isinstance(document, Mapping) else None
    groups = found if isinstance(found, list) else [found]
    for group in groups:
        if not isinstance(group, Mapping):
            continue
        for name, given in group.items():
            body = given[0] if isinstance(given, list) and given else given
            values: Mapping[str, Value] = body if isinstance(body, Mapping) else {}
            default = values.get("default")
            kind, description = values.get("type"), values.get("description")
            yield TemplateVariable(
                name=name,
                description=description if isinstance(description, str) else "",
                type=kind if isinstance(kind, str) else "",
                default=default if isinstance(default, str) else "" if default is None else json.dumps(default),
                required=default is None,
                sensitive=values.get("sensitive") is True,
            )


def _readme(folder: Path) -> bytes:
    for name in _README:
        path = folder / name
        if path.is_file():
            return path.read_bytes()
    return b""
