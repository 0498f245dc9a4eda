"""The services around builds on a real database, with users and a template's source in it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import anyio
from psycopg import AsyncConnection

from tests.integration.builds.scripted_daemon import ScriptedDaemon, connected
from warren.authz.policy import Actor, Membership, actor_of
from warren.authz.roles import RoleOptions
from warren.clock import ManualClock
from warren.domain import agent as agent_rules
from warren.domain.agent import AgentView
from warren.domain.build import Transition
from warren.domain.tags import UNTAGGED
from warren.domain.template import TemplateSettings
from warren.rpc._pb import provisioner_pb2 as pb
from warren.services.build_queue import NewBuild
from warren.services.build_views import BuildDetail, BuildViews, WorkspaceDetail
from warren.services.builds import Builds
from warren.services.job_payload import PayloadSettings
from warren.services.jobs import Jobs
from warren.services.provisionerd import ProvisionerDaemons, ProvisionerdSettings
from warren.services.reaper import Reaper
from warren.services.template_versions import NewVersion, TemplateVersions, VersionView
from warren.services.templates import NewTemplate, Templates, TemplateView
from warren.services.workspaces import NewWorkspace, Workspaces
from warren.storage import agents
from warren.storage.db import Database, open_database
from warren.storage.notify import Notifier
from warren.storage.provisioner_daemons import BUILT_IN_KEY, Daemon, NewDaemon

SOURCE = b"the archive of a template's files"


class SteppingClock(ManualClock):
    """A clock that never tells the same time twice, so that what was made later sorts later."""

    def now(self) -> datetime:
        """Tell the time, a little later than the last time."""
        self.advance(timedelta(microseconds=10))
        return super().now()


@dataclass
class World:
    """All services, two users and the file of a template."""

    pool: Database
    notifier: Notifier
    clock: ManualClock
    organization_id: UUID
    admin: Actor
    member: Actor
    file_id: UUID
    stack: AsyncExitStack
    recovered: dict[UUID, bytes] = field(default_factory=dict[UUID, bytes])

    def __post_init__(self) -> None:
        """Construct the services."""
        self.jobs = Jobs(self.pool, self.notifier, self.clock)
        views = BuildViews(self.jobs, self._agents, allow_renames=True)
        self.builds = Builds(self.pool, self.clock, self.jobs, views)
        self.workspaces = Workspaces(self.pool, self.notifier, self.clock, self.builds, views)
        self.templates = Templates(self.pool, self.clock)
        self.versions = TemplateVersions(self.pool, self.clock, self.jobs, views)
        payload = PayloadSettings("http://warren.test", timedelta(days=7))
        self.provisionerd = ProvisionerDaemons(self.pool, self.notifier, self.clock, ProvisionerdSettings(payload))
        self.reaper = Reaper(self.pool, self.clock, self._recover)

    async def _agents(self, db: AsyncConnection, resource_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[AgentView]]:
        found = await agents.list_of_resources(db, resource_ids)
        now = self.clock.now()
        return {
            resource_id: [agent_rules.view(parts, now, latency={}, subdomain_apps=False) for parts in each]
            for resource_id, each in found.items()
        }

    async def _recover(self, job_id: UUID) -> bytes | None:
        return self.recovered.get(job_id)

    async def register(self, name: str = "vm-0") -> Daemon:
        """Store a daemon."""
        return await self.provisionerd.register(
            NewDaemon(self.organization_id, BUILT_IN_KEY, name, "v1", "1.18", ["terraform"], UNTAGGED)
        )

    async def daemon(self, name: str = "vm-0") -> ScriptedDaemon:
        """Connect a scripted daemon for as long as the world lasts."""
        return await self.stack.enter_async_context(connected(self.provisionerd, await self.register(name)))

    async def version(self, template_id: UUID | None = None, name: str = "") -> VersionView:
        """Queue the import of a version."""
        wanted = NewVersion(self.file_id, name, "", template_id, "terraform", {}, {})
        return await self.versions.create(self.admin, self.organization_id, wanted)

    async def template(
        self, daemon: ScriptedDaemon, *, parameters: Sequence[pb.RichParameter] = (), name: str = "box"
    ) -> TemplateView:
        """Import a version and make a template of it."""
        version = await self.version()
        await daemon.import_version(parameters=parameters)
        new = NewTemplate(version.version.id, TemplateSettings(name=name), private=False)
        return await self.templates.create(self.admin, self.organization_id, new)

    async def workspace(self, template: TemplateView, *, name: str = "dev", **values: str) -> WorkspaceDetail:
        """Create a workspace of the admin."""
        return await self.workspaces.create(
            self.admin,
            self.admin.user_id,
            NewWorkspace(name, template.template.id, None, None, None, "", values, None),
        )

    async def running(self, daemon: ScriptedDaemon, *, name: str = "dev") -> WorkspaceDetail:
        """Create a workspace and let its first build succeed."""
        workspace = await self.workspace(await self.template(daemon, name=f"t-{name}"), name=name)
        await daemon.build()
        return workspace

    async def build(self, workspace: WorkspaceDetail, transition: str, *, actor: Actor | None = None) -> BuildDetail:
        """Queue a build."""
        new = NewBuild(Transition(transition))
        return await self.builds.create(actor or self.admin, workspace.view.workspace.id, new)

    async def status(self, build: BuildDetail) -> str:
        """Tell how the job of a build stands."""
        return (await self.builds.get(self.admin, build.view.build.id)).view.job.job.status


async def _seed(pool: Database, world_ids: tuple[UUID, UUID, UUID, UUID]) -> None:
    organization_id, admin_id, member_id, file_id = world_ids
    async with pool.connection() as db:
        await db.execute(
            """
            INSERT INTO organizations (id, name, display_name, is_default, created_at, updated_at)
            VALUES (%s, 'coder', 'Coder', true, now(), now())""",
            (organization_id,),
        )
        await db.execute(
            "INSERT INTO groups (id, organization_id, name) VALUES (%s, %s, 'Everyone')",
            (organization_id, organization_id),
        )
        for user_id, name, roles in ((admin_id, "admin", ["owner"]), (member_id, "bob", list[str]())):
            await db.execute(
                """
                INSERT INTO users (id, email, username, roles, status, created_at, updated_at)
                VALUES (%s, %s, %s, %s, 'active', now(), now())""",
                (user_id, f"{name}@example.com", name, roles),
            )
            await db.execute(
                """
                INSERT INTO organization_members (organization_id, user_id, created_at, updated_at)
                VALUES (%s, %s, now(), now())""",
                (organization_id, user_id),
            )
        await db.execute(
            """
            INSERT INTO files (id, hash, created_by, mimetype, content, created_at)
            VALUES (%s, %s, %s, 'application/x-tar', %s, now())""",
            (file_id, hashlib.sha256(SOURCE).digest(), admin_id, SOURCE),
        )


def _actor(user_id: UUID, name: str, organization_id: UUID, *roles: str) -> Actor:
    membership = Membership(organization_id, ["organization-workspace-access"], "everyone")
    return actor_of(user_id=user_id, username=name, roles=roles, memberships=[membership], options=RoleOptions())


@asynccontextmanager
async def open_world(database_url: str) -> AsyncGenerator[World]:
    """Fill an empty database and open the services on it."""
    ids = (uuid4(), uuid4(), uuid4(), uuid4())
    organization_id, admin_id, member_id, file_id = ids
    notifier = Notifier(database_url)
    async with (
        open_database(database_url) as pool,
        anyio.create_task_group() as tasks,
        AsyncExitStack() as stack,
    ):
        await tasks.start(notifier.run)
        await _seed(pool, ids)
        # Leases and liveness go by the database's clock; what people see goes by this one.
        yield World(
            pool,
            notifier,
            SteppingClock(datetime.now(UTC)),  # noqa: TID251  must be near the database's
            organization_id,
            _actor(admin_id, "admin", organization_id, "owner"),
            _actor(member_id, "bob", organization_id),
            file_id,
            stack,
        )
        await stack.aclose()
        tasks.cancel_scope.cancel()
