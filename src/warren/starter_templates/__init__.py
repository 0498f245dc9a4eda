"""The templates to begin with, as `warren templates init` and the API offer them.

Each is a folder beside this file with a README whose front matter describes it.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from warren.errors import NotFound

_FOLDER = Path(__file__).parent
_README = "README.md"
_FENCE = "---\n"


@dataclass(frozen=True, slots=True)
class Example:
    """A starter template; `archive` is a tar of its files."""

    id: str
    name: str
    description: str
    icon: str
    tags: tuple[str, ...]
    markdown: str
    archive: bytes


@cache
def examples() -> tuple[Example, ...]:
    """List the starter templates, by ID."""
    return tuple(_read(readme.parent) for readme in sorted(_FOLDER.glob(f"*/{_README}")))


def find(example_id: str) -> Example:
    """Give one starter template.

    Raises:
        NotFound: there is none of that ID.
    """
    for example in examples():
        if example.id == example_id:
            return example
    known = ", ".join(example.id for example in examples())
    raise NotFound(f"no starter template `{example_id}`", hint=f"there are: {known}")


def _read(folder: Path) -> Example:
    text = (folder / _README).read_text(encoding="utf-8")
    _, front, markdown = text.split(_FENCE, 2)
    described: dict[str, str | list[str]] = yaml.safe_load(front)
    return Example(
        id=folder.name,
        name=str(described["display_name"]),
        description=str(described["description"]),
        icon=str(described["icon"]),
        tags=tuple(described.get("tags", ())),
        markdown=markdown.lstrip("\n"),
        archive=_pack(folder),
    )


def _pack(folder: Path) -> bytes:
    """Pack a folder so that the same files always give the same bytes."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            content = path.read_bytes()
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return output.getvalue()
