"""What a person sees who logs in: announcements and the message of the day."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from warren.agent.manifest import Banner

HUSH_FILE = ".hushlogin"


def greeting(banners: Iterable[Banner], motd: str) -> bytes:
    """Compose what a login shell's terminal shows first; every line ends as raw terminals need it."""
    texts = [f"{banner.message.strip()}\n\n" for banner in banners if banner.enabled and banner.message.strip()]
    if motd:
        texts.append(motd if motd.endswith("\n") else f"{motd}\n")
    lines = "".join(texts).split("\n")
    return "\r\n".join(line.removesuffix("\r") for line in lines).encode(errors="replace")


def read_motd(path: str, home: str) -> str:
    """Read the message of the day unless the user hushed it; a missing file is none."""
    if not path or (Path(home) / HUSH_FILE).exists():
        return ""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
