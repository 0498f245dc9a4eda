"""Run `warren` as a program of its own in tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio


@dataclass(frozen=True)
class Runner:
    """The program with a configuration folder of its own, and nothing of ours in its environment."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def environment(self) -> dict[str, str]:
        """What the program sees."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("WARREN_", "CODER_", "PYTHON"))
        }
        own = {"WARREN_CONFIG_DIR": str(self.folder), "PYTHONWARNINGS": "error", "NO_COLOR": "1"}
        return {**inherited, **own, **self.variables}

    async def __call__(
        self, *words: str, data: str = "", status: int = 0, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `status` is the exit code it must have."""
        command = [sys.executable, "-m", "warren", *words]
        with anyio.fail_after(18):
            ran = await anyio.run_process(command, input=data.encode(), check=False, env=self.environment, cwd=cwd)
        done = subprocess.CompletedProcess(words, ran.returncode, ran.stdout.decode(), ran.stderr.decode())
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done
