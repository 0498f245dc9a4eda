"""Turn what somebody wants to run into arguments, environment and directory."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from warren.agent.environment import Login, Surroundings, compose
from warren.agent.expansion import expand_directory
from warren.agent.manifest import Manifest
from warren.agent.system import Command, System
from warren.errors import Unavailable


def arguments_for(text: str, shell: str) -> list[str]:
    """Return the arguments that run `text`: a login shell when empty, a script by its `#!` line, else `shell -c`."""
    if not text:
        return [shell, "-l"]
    if text.strip().startswith("#!"):
        interpreter, _, _ = text.strip().partition("\n")
        return [*shlex.split(interpreter[2:]), "-c", text]
    return [shell, "-c", text]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the agent process brings to every command."""

    process_environment: Mapping[str, str]
    program: str
    first_on_path: tuple[str, ...]


class CommandFactory:
    """Makes commands as the current manifest wants them."""

    def __init__(self, system: System, settings: Settings, token: Callable[[], str]) -> None:
        self._system, self._settings, self._token = system, settings, token
        self._manifest: Manifest | None = None
        self._directory = ""

    @property
    def manifest(self) -> Manifest:
        """The manifest in use.

        Raises:
            Unavailable: there is none yet.
        """
        if self._manifest is None:
            raise Unavailable("no manifest received yet")
        return self._manifest

    def use(self, manifest: Manifest) -> str:
        """Use this manifest from now on; return the working directory it means."""
        self._manifest = manifest
        self._directory = expand_directory(manifest.directory, self._system.home(), self._settings.process_environment)
        return self._directory

    def home(self) -> str:
        """Return the user's home folder."""
        return self._system.home()

    def directory(self) -> str:
        """Return where commands start: the manifest's directory if it exists, else home."""
        home = self._system.home()
        return self._directory if self._directory and Path(self._directory).is_dir() else home

    def make(
        self, text: str, *, sent: Mapping[str, str] | None = None, extra: Mapping[str, str] | None = None
    ) -> Command:
        """Make the command for `text`; `sent` came from an SSH client, `extra` wins over everything."""
        shell = self._system.shell()
        settings = self._settings
        around = Surroundings(
            process=settings.process_environment,
            login=Login(self._system.user_name(), shell, self._system.home()),
            token=self._token(),
            program=settings.program,
            first_on_path=settings.first_on_path,
        )
        environment = compose(self.manifest, around, sent) | dict(extra or {})
        return Command(arguments_for(text, shell), environment, self.directory())
