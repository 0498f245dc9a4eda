"""Values that agents collect again and again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from warren.domain.agent import MetadataItem, MetadataValue


async def list_of_agent(db: AsyncConnection, agent_id: UUID) -> Sequence[MetadataItem]:
    """List the items of an agent in the order in which people see them."""
    async with db.cursor(row_factory=class_row(MetadataItem)) as cursor:
        await cursor.execute(
            """
            SELECT key, display_name, script, interval_seconds, timeout_seconds, value, error, collected_at
            FROM workspace_agent_metadata WHERE agent_id = %s ORDER BY display_order, key""",
            (agent_id,),
        )
        return await cursor.fetchall()


async def update(db: AsyncConnection, values: Sequence[tuple[UUID, MetadataValue, datetime]]) -> None:
    """Store new values of many agents at once; keys that an agent does not have are left out."""
    await db.execute(
        """
        UPDATE workspace_agent_metadata m
        SET value = n.value, error = n.error, collected_at = n.collected_at
        FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::timestamptz[])
            AS n (agent_id, key, value, error, collected_at)
        WHERE m.agent_id = n.agent_id AND m.key = n.key""",
        (
            [agent_id for agent_id, _, _ in values],
            [value.key for _, value, _ in values],
            [value.value for _, value, _ in values],
            [value.error for _, value, _ in values],
            [collected_at for _, _, collected_at in values],
        ),
    )
