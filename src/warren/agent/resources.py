"""Watch memory and disks where the template asks for it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from warren.agent.system import MemoryUsage, System


@dataclass(frozen=True, slots=True)
class MonitoringPlan:
    """What to watch, how often, and how many samples make a report."""

    samples: int
    interval_seconds: float
    memory: bool
    volumes: tuple[str, ...]

    @property
    def needed(self) -> bool:
        """Say whether there is anything to watch."""
        return self.samples > 0 and self.interval_seconds > 0 and (self.memory or bool(self.volumes))


@dataclass(frozen=True, slots=True)
class VolumeUsage:
    """Bytes of a disk in use and in all."""

    path: str
    used_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement."""

    at: datetime
    memory: MemoryUsage | None
    volumes: tuple[VolumeUsage, ...]


class ResourceMonitor:
    """Keeps the last samples; a report is due once there are as many as the plan wants."""

    def __init__(self, plan: MonitoringPlan, system: System) -> None:
        self._plan, self._system = plan, system
        self._samples: deque[Sample] = deque(maxlen=plan.samples)

    def measure(self, now: datetime) -> Sequence[Sample]:
        """Take a sample; return the report that is due, else nothing."""
        memory = self._system.memory() if self._plan.memory else None
        volumes = tuple(measured for path in self._plan.volumes if (measured := _measure(path)) is not None)
        self._samples.append(Sample(now, memory, volumes))
        return list(self._samples) if len(self._samples) == self._plan.samples else []


def _measure(path: str) -> VolumeUsage | None:
    try:
        status = os.statvfs(path)
    except OSError:  # not mounted at the moment
        return None
    total = status.f_blocks * status.f_frsize
    return VolumeUsage(path, total - status.f_bfree * status.f_frsize, total)
