"""The deployment as a whole: identity, appearance, figures."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from warren.authz.policy import Action, Actor, Object
from warren.clock import Clock
from warren.domain.organization import Organization
from warren.storage import deployment, organizations
from warren.storage.deployment import Counts, Identity, Traffic

APPEARANCE = "appearance"
STATS_WINDOW = timedelta(minutes=15)
STATS_FRESH = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """What clients are told of this deployment."""

    version: str
    access_url: str
    wildcard_host: str
    docs_url: str
    hostname_prefix: str
    hostname_suffix: str
    ssh_config_options: Mapping[str, str]
    upgrade_message: str
    terms_of_service_url: str
    experiments: Sequence[str]
    config: Mapping[str, object]
    options: Sequence[Mapping[str, object]]
    browser_only: bool = False


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures about the deployment."""

    aggregated_from: datetime
    collected_at: datetime
    next_update_at: datetime
    counts: Counts
    traffic: Traffic


async def prepare(pool: AsyncConnectionPool, clock: Clock) -> Identity:
    """Give a new database its identity and its default organization; one that has them keeps them."""
    async with pool.connection() as db:
        return await prepare_connection(db, clock)


async def prepare_connection(db: AsyncConnection, clock: Clock) -> Identity:
    """Do what `prepare` does, on a connection within a transaction."""
    now = clock.now()
    identity, created = await deployment.ensure(db, Identity(uuid4(), secrets.token_bytes(32), now))
    if created:
        await organizations.insert(
            db,
            Organization(
                id=uuid4(),
                name="coder",
                display_name="Coder",
                description="Builtin default organization.",
                icon="",
                is_default=True,
                default_member_roles=["organization-workspace-access"],
                created_at=now,
                updated_at=now,
            ),
        )
    return identity


class Deployment:
    """Use cases around the deployment."""

    def __init__(
        self, pool: AsyncConnectionPool, clock: Clock, deployment_id: UUID, settings: DeploymentSettings
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._stats: Stats | None = None
        self.id = deployment_id
        self.settings = settings

    def check_config_readable(self, actor: Actor) -> None:
        """Insist that the caller may see the settings."""
        actor.allow(Action.READ, Object("deployment_config"))

    async def stats(self, actor: Actor) -> Stats:
        """Count workspaces, traffic and sessions; at most half a minute old."""
        actor.allow(Action.READ, Object("deployment_stats"))
        now = self._clock.now()
        if self._stats is None or self._stats.next_update_at <= now:
            async with self._pool.connection() as db:
                counts = await deployment.count_workspaces(db)
                traffic = await deployment.sum_traffic(db, now - STATS_WINDOW)
            self._stats = Stats(now - STATS_WINDOW, now, now + STATS_FRESH, counts, traffic)
        return self._stats

    async def read_appearance(self) -> Mapping[str, object]:
        """Read how the operator dressed the deployment."""
        async with self._pool.connection() as db:
            found = await deployment.read_config(db, APPEARANCE)
        return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]  our own JSON

    async def write_appearance(self, actor: Actor, value: Mapping[str, object]) -> None:
        """Dress the deployment."""
        actor.allow(Action.UPDATE, Object("deployment_config"))
        async with self._pool.connection() as db:
            await deployment.write_config(db, APPEARANCE, dict(value))

    async def ping(self) -> None:
        """Ask the database anything.

        Raises:
            Unavailable: it does not answer.
        """
        async with self._pool.connection() as db:
            await db.execute("SELECT 1")
