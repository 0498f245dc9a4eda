"""HTTP handlers, one module per domain; each has a list `routes`. A new module is added to `ROUTES`."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from warren.api.routes import (
    agent_rpc,
    agents,
    builds,
    deployment,
    files,
    general,
    health,
    organizations,
    provisioner_keys,
    provisioners,
    tailnet,
    template_versions,
    templates,
    tokens,
    users,
    workspaces,
)

ROUTES: Sequence[ModuleType] = (
    general,
    users,
    tokens,
    organizations,
    deployment,
    health,
    files,
    templates,
    template_versions,
    workspaces,
    builds,
    provisioners,
    provisioner_keys,
    agents,
    agent_rpc,
    tailnet,
)
