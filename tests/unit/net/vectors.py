"""The vectors that the Rust codecs are tested against too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "vectors"
# A row is a JSON object whose shape depends on the file; tests name the fields they use.
Row = dict[str, Any]


def load(name: str) -> Row:
    """Read one file of vectors."""
    document: Row = json.loads((FOLDER / f"{name}.json").read_text())
    return document


def rows(name: str, *lists: str) -> list[Row]:
    """Read the rows of some lists of a file."""
    document = load(name)
    return [row for each in lists for row in document[each]]


def row_id(row: Row) -> str:
    """Name a row in a test report."""
    return str(row["name"])


def recorded(name: str, side: str) -> bytes:
    """Read what one side of a recorded session sent, after the upgrade."""
    lines = (FOLDER / "recorded" / name).read_text().splitlines()
    parts = [json.loads(line) for line in lines]
    return b"".join(bytes.fromhex(part["data"]) for part in parts if part["kind"] == "bytes" and part["from"] == side)
