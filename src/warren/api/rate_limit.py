"""Rate limits: how many requests one caller may send to one path in a minute. Counted by each process for itself."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

WINDOW_SECONDS = 60.0
MOST_CALLERS = 100_000  # beyond this the ones longest quiet are forgotten, so that a flood of addresses takes no memory
_LOGIN = ("/api/v2/users/login", "/api/v2/users/otp/", "/api/v2/users/validate-password", "/api/v2/users/oauth2/")


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests a minute; 0 or less is no limit."""

    api: int = 512
    login: int = 60
    files: int = 12

    def of(self, method: str, path: str) -> int:
        """Find the limit of a path; 0 means none."""
        if path.startswith(_LOGIN) or (method == "PUT" and path.endswith("/password")):
            return max(0, self.login)
        if path.startswith("/api/v2/files"):
            return max(0, self.files)
        return max(0, self.api) if path.startswith("/api/") else 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass, and what the caller is told."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int


class Counter:
    """Sliding counts: the last window weighs as much as of it still lies within the past minute."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._counts: OrderedDict[tuple[str, str], tuple[int, int, int]] = OrderedDict()

    def count(self, caller: str, method: str, path: str, now_seconds: float) -> Verdict | None:
        """Count a request; `None` when its path has no limit."""
        limit = self._limits.of(method, path)
        if not limit:
            return None
        window, elapsed = divmod(now_seconds, WINDOW_SECONDS)
        key = (caller, path)
        at, count, before = self._counts.pop(key, (int(window), 0, 0))
        if at != int(window):
            count, before = 0, count if at == int(window) - 1 else 0
        rate = count + before * (1 - elapsed / WINDOW_SECONDS)
        allowed = rate + 1 <= limit
        self._counts[key] = (int(window), count + allowed, before)
        if len(self._counts) > MOST_CALLERS:
            self._counts.popitem(last=False)
        remaining = max(0, limit - int(rate) - 1)
        return Verdict(allowed, limit, remaining, int(WINDOW_SECONDS - elapsed) + 1)
