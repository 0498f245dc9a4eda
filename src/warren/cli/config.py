"""The folder of the client's configuration, shared with stock clients: `url`, `session`, and a few more files."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ConfigFolder:
    """Files of plain text in one folder."""

    path: Path

    def read(self, name: str) -> str:
        """Read a file; empty when it does not exist."""
        try:
            return (self.path / name).read_text().strip()
        except FileNotFoundError:
            return ""

    def write(self, name: str, text: str) -> None:
        """Replace a file at once; only its owner may read it."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self.path, prefix=f".{name}")
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(temporary).replace(self.path / name)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)


def default_path() -> Path:
    """Say where the configuration lies when nothing else is said."""
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/coderv2"
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", str(Path.home()))) / "coderv2"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "coderv2"
