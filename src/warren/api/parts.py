"""The constructed services that handlers use. Add a field here, and handlers get it by that name."""

from __future__ import annotations

from dataclasses import dataclass

from warren.api.gate import GateSettings
from warren.api.workspace_pages import WorkspacePages
from warren.clock import Clock
from warren.services.agent_rpc import AgentRPC
from warren.services.agents import Agents
from warren.services.authcheck import Authcheck
from warren.services.builds import Builds
from warren.services.coordination import Coordination
from warren.services.deployment import Deployment
from warren.services.files import Files
from warren.services.health import Health
from warren.services.jobs import Jobs
from warren.services.lookups import Lookups
from warren.services.organizations import Organizations
from warren.services.provisioner_keys import ProvisionerKeys
from warren.services.provisionerd import ProvisionerDaemons
from warren.services.resume_tokens import ResumeTokens
from warren.services.sessions import Sessions
from warren.services.template_versions import TemplateVersions
from warren.services.templates import Templates
from warren.services.tokens import Tokens
from warren.services.users import Users
from warren.services.workspace_updates import WorkspaceUpdates
from warren.services.workspaces import Workspaces
from warren.storage.db import Database
from warren.storage.notify import Notifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that the API is built on."""

    database: Database
    notifier: Notifier
    clock: Clock
    gate_settings: GateSettings
    deployment: Deployment
    sessions: Sessions
    users: Users
    tokens: Tokens
    organizations: Organizations
    authcheck: Authcheck
    lookups: Lookups
    files: Files
    templates: Templates
    template_versions: TemplateVersions
    workspaces: Workspaces
    workspace_pages: WorkspacePages
    workspace_updates: WorkspaceUpdates
    builds: Builds
    jobs: Jobs
    health: Health
    provisionerd: ProvisionerDaemons
    provisioner_keys: ProvisionerKeys
    agents: Agents
    agent_rpc: AgentRPC
    coordination: Coordination
    resume_tokens: ResumeTokens
