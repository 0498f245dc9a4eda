"""Pages of workspaces, encoded: the one answer that every open dashboard asks for again and again.

What a workspace looks like is kept for a moment and used again while the stamp that the search brings is the same.
The stamp sees every change that people make. What it does not see (an agent that was heard of, the age of a sign of
life, a place in the queue) is at most `FRESH_SECONDS` old.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from warren.api.convert import workspaces as convert
from warren.api.json import encode
from warren.authz.policy import Actor
from warren.clock import Clock
from warren.services.workspaces import Workspaces
from warren.storage.workspaces import Found

FRESH_SECONDS = 0.5  # shorter than anybody looks twice
KEPT = 2000  # of about 5 KB each


@dataclass(frozen=True, slots=True)
class _Entry:
    stamp: str
    until: float
    data: bytes


class WorkspacePages:
    """Lists workspaces as JSON."""

    def __init__(self, workspaces: Workspaces, clock: Clock) -> None:
        self._workspaces = workspaces
        self._clock = clock
        self._entries: OrderedDict[tuple[UUID, bool], _Entry] = OrderedDict()

    async def encode(self, actor: Actor, query: str, *, limit: int, offset: int) -> bytes:
        """List the workspaces that the caller may see and that match a query, as a JSON document."""
        page = await self._workspaces.search(actor, query, limit=limit, offset=offset)
        known = {found.id: data for found in page.found if (data := self._fresh(found)) is not None}
        missing = [found for found in page.found if found.id not in known]
        if missing:
            known |= await self._read(actor, missing)
        # One that was deleted since the search is not there any more.
        parts = [known[found.id] for found in page.found if found.id in known]
        return b'{"workspaces":[%b],"count":%d}\n' % (b",".join(parts), page.count)

    def _fresh(self, found: Found) -> bytes | None:
        entry = self._entries.get((found.id, found.favorite))
        if entry is None or entry.stamp != found.stamp or entry.until < self._clock.monotonic():
            return None
        return entry.data

    async def _read(self, actor: Actor, missing: list[Found]) -> dict[UUID, bytes]:
        details = await self._workspaces.details(actor, [found.id for found in missing])
        until = self._clock.monotonic() + FRESH_SECONDS
        wanted = {found.id: found for found in missing}
        result: dict[UUID, bytes] = {}
        for detail in details:
            found = wanted[detail.view.workspace.id]
            data = encode(convert.workspace(detail)).rstrip(b"\n")
            result[found.id] = data
            key = (found.id, found.favorite)
            # The stamp was read before the rest: should they differ, the next search finds another stamp.
            self._entries[key] = _Entry(found.stamp, until, data)
            self._entries.move_to_end(key)
        while len(self._entries) > KEPT:
            self._entries.popitem(last=False)
        return result
