"""What a reader sees of resources and of those who hold them: plain values, drawn by every door.

Layer: pure. A view is a photograph: it never changes and holds no connection. Amounts are whole numbers in
`parts` of one unit, so that sums stay exact; `to_dict` gives them in the unit that people count in (cores,
bytes, devices, calls). Instants are aware UTC datetimes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from codomyrmex.logistics.orchestration.project.resource_amounts import from_held
from codomyrmex.logistics.orchestration.project.resource_request import UNIT
from codomyrmex.logistics.orchestration.project.resources import status_of

HOST, STATE = "host", "state"
"""Who a resource belongs to: the machine, for all projects on it, or one state."""
_UNITS = {
    "cpu": "CPUs",
    "memory": "bytes",
    "disk": "bytes",
    "network": "bytes per second",
    "gpu": "GPUs",
    "api_quota": "calls",
    "custom": "units",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceView:
    """One resource and how much of it is in use."""

    id: str
    name: str
    type: str
    capacity: int
    parts: int = UNIT
    allocated: int | None = 0
    """None where each engine counts by itself, so that nobody else can tell."""
    available: int | None = None
    peak: int | None = 0
    holders: int | None = 0
    waiting: int = 0
    """Engines with work that waits for what others hold; not which tasks wait, that is for `explain`."""
    offline: bool = False
    scope: str = STATE
    per_s: float | None = None
    burst: int | None = None
    free_at: datetime | None = None
    """When a quota that lets nothing pass now lets something pass again."""
    description: str = ""

    @property
    def at_once(self) -> int:
        """The most that can be held, or pass, at one moment."""
        return self.burst if self.burst is not None else self.capacity

    @property
    def percent(self) -> float | None:
        """How much of what there is is in use."""
        if self.allocated is None:
            return None
        return round(100 * self.allocated / self.at_once, 1) if self.at_once else 0.0

    @property
    def status(self) -> str:
        """A `ResourceStatus` as its text."""
        if self.allocated is None or self.available is None:
            return "offline" if self.offline else "available"
        return status_of(allocated=self.allocated, available=self.available, offline=self.offline).value

    @property
    def unit(self) -> str:
        """What its amounts count."""
        return _UNITS[self.type]

    def amount(self, parts: int | None) -> int | float | None:
        """An amount in its unit."""
        return _in_unit(parts, self.parts)

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "id": self.id,
            "name": self.name,
            "type": self.type,
            "status": self.status,
            "unit": self.unit,
            "capacity": self.amount(self.capacity),
            "allocated": self.amount(self.allocated),
            "available": self.amount(self.available),
            "percent": self.percent,
            "peak": self.amount(self.peak),
            "holders": self.holders,
            "waiting": self.waiting,
            "offline": self.offline,
            "scope": self.scope,
            "per_s": self.per_s,
            "burst": self.amount(self.burst),
            "free_at": self.free_at.isoformat() if self.free_at is not None else None,
            "description": self.description,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class HolderView:
    """Somebody who holds some of a resource: an attempt, a requester, or on the machine an engine."""

    resource: str
    type: str
    amount: int
    parts: int = UNIT
    holder: str
    """`RUN/TASK` of an attempt, else whoever asked for it."""
    allocation_id: str | None = None
    execution_id: str | None = None
    task: str | None = None
    attempt: int | None = None
    pool: str | None = None
    """The requester out of whose holding it is taken."""
    engine: int | None = None
    pid: int | None = None
    host: str | None = None
    project: str | None = None
    """The folder of the project whose engine it is; of machine resources."""
    gone: bool = False
    """True where that engine is dead: the next one that opens gives it back."""
    since: datetime | None = None
    expires_at: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "resource": self.resource,
            "type": self.type,
            "amount": _in_unit(self.amount, self.parts),
            "unit": _UNITS[self.type],
            "holder": self.holder,
            "allocation_id": self.allocation_id,
            "execution_id": self.execution_id,
            "task": self.task,
            "attempt": self.attempt,
            "pool": self.pool,
            "engine": self.engine,
            "pid": self.pid,
            "host": self.host,
            "project": self.project,
            "gone": self.gone,
            "since": self.since.isoformat() if self.since is not None else None,
            "expires_at": self.expires_at.isoformat() if self.expires_at is not None else None,
        }


def _in_unit(amount: int | None, parts: int) -> int | float | None:
    return None if amount is None else from_held(amount, parts)
