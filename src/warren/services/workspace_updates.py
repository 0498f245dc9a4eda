"""Tell VPN clients about the workspaces of their user."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from uuid import UUID

import anyio
from psycopg_pool import AsyncConnectionPool

from warren.authz.filter import readable_workspaces
from warren.authz.policy import Actor
from warren.domain.workspace_updates import Snapshot, Update, diff
from warren.rpc import convert_tailnet
from warren.rpc._pb import tailnet_pb2 as pb
from warren.rpc.drpc import Call, Handler
from warren.rpc.methods import AnyMethod, TailnetAPI
from warren.services.builds import TOPIC as WORKSPACE
from warren.services.workspaces import COLUMNS, DORMANT
from warren.storage import workspace_updates
from warren.storage.notify import EVERY, Notifier

POLL_SECONDS = 30.0
PAUSE_SECONDS = 0.5  # a build changes its workspace several times in a row


class WorkspaceUpdates:
    """Follows the workspaces of users."""

    def __init__(self, pool: AsyncConnectionPool, notifier: Notifier) -> None:
        self._pool = pool
        self._notifier = notifier

    def handlers(self, actor: Actor) -> Mapping[AnyMethod, Handler]:
        """Make the handler of this part of the tailnet API for one user's client."""

        async def send_updates(call: Call[pb.WorkspaceUpdate, pb.WorkspaceUpdatesRequest]) -> None:
            request = await call.receive()
            owner_id = convert_tailnet.uuid_from_bytes(request.workspace_owner_id)
            async with aclosing(self.follow(actor, owner_id)) as updates:
                async for update in updates:
                    await call.send(convert_tailnet.workspace_update_to_message(update))

        handlers: dict[AnyMethod, Handler] = {
            TailnetAPI.WorkspaceUpdates: send_updates,
        }
        return handlers

    async def follow(self, actor: Actor, owner_id: UUID) -> AsyncGenerator[Update]:
        """Yield all workspaces of a user that the actor may see, then what changes."""
        readable = readable_workspaces(actor, COLUMNS, DORMANT)
        told: Snapshot | None = None
        async with self._notifier.subscribe(WORKSPACE, EVERY) as changes:
            while True:
                async with self._pool.connection() as db:
                    found = await workspace_updates.snapshot(db, owner_id, readable)
                update = diff(told or Snapshot(), found)
                if told is None or update:
                    yield update
                told = found
                await anyio.sleep(PAUSE_SECONDS)
                await changes.wait(POLL_SECONDS)
