"""Expand `~`, `$NAME` and `${NAME}` in values that templates and users write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

_REFERENCE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*|[0-9*#$@!?-]))")


def expand_variables(text: str, variables: Mapping[str, str]) -> str:
    """Replace each `$NAME` and `${NAME}`; an unknown name becomes empty, a lone `$` stays."""
    return _REFERENCE.sub(lambda match: variables.get(match[1] or match[2] or "", ""), text)


def expand_home(text: str, home: str) -> str:
    """Replace a leading `~` or `~/` by the home folder; `~user` is left alone."""
    if text == "~":
        return home
    return f"{home.rstrip('/')}{text[1:]}" if text.startswith("~/") else text


def expand_directory(directory: str, home: str, variables: Mapping[str, str]) -> str:
    """Make the working directory of a manifest absolute; empty stays empty."""
    if not directory:
        return ""
    expanded = expand_variables(expand_home(directory, home), variables)
    return str(PurePosixPath(home, expanded))
