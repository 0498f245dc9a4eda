"""The constructed services that handlers use. Add a field here, and handlers get it by that name."""

from __future__ import annotations

from dataclasses import dataclass

from warren.api.gate import GateSettings
from warren.clock import Clock
from warren.services.deployment import Deployment
from warren.services.sessions import Sessions
from warren.services.users import Users
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
