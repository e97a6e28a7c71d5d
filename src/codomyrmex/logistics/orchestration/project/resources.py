"""What can be had, what somebody has of it, and how much of it is in use: the values of the resource manager.

Layer: pure. Amounts are what people count in: cores, bytes, devices, bytes per second, calls, units. A whole
amount is an `int`, a part is a `float`; inside, everything is held in whole numbers (`resource_amounts`), so
no sum drifts. All of these are photographs: changing one changes nothing in the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import Enum
from typing import Any, Self, TypeVar

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.states import ResourceStatus, ResourceType

__all__ = [
    "Resource",
    "ResourceAllocation",
    "ResourceLimits",
    "ResourceStatus",
    "ResourceType",
    "ResourceUsage",
    "status_of",
]

Amount = int | float
E = TypeVar("E", bound=Enum)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Rules for those who ask; None is no rule. A request that breaks one for good is refused, not queued."""

    max_per_request: Amount | None = None
    """The most of one allocation."""
    max_per_requester: Amount | None = None
    """The most that one requester holds at any time; beyond it, it waits for itself."""
    max_ttl_s: float | None = None
    """The longest that an allocation lasts without renewal, and how long it lasts when nobody says."""

    def to_dict(self) -> dict[str, Any]:
        """The rules that there are."""
        return {name: value for name, value in _plain_fields(self).items() if value is not None}

    @classmethod
    def of(cls, given: ResourceLimits | Mapping[str, Any] | None) -> ResourceLimits:
        """Limits as such or as a mapping; raises `ValidationError` for a rule that is not known."""
        if given is None or isinstance(given, ResourceLimits):
            return given or cls()
        return _made(cls, given, "the limits")


@dataclass(slots=True)
class Resource:
    """Something that there is only so much of.

    `capacity` is in the unit of its type. An `API_QUOTA` lets `capacity` calls pass per `per_s` seconds
    (default 60), up to `burst` of them at once; without a burst they are spaced evenly. What is `allocated`
    and `available` is filled in where a manager gives a resource out, and not looked at where it takes one.
    """

    id: str
    name: str
    type: ResourceType
    capacity: Amount
    description: str = ""
    limits: ResourceLimits | None = None
    per_s: float | None = None
    burst: Amount | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    allocated: Amount = 0
    available: Amount | None = None
    status: ResourceStatus = ResourceStatus.AVAILABLE
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        self.type = _member(ResourceType, self.type, "type")
        self.status = _member(ResourceStatus, self.status, "status")
        if self.limits is not None:
            self.limits = ResourceLimits.of(self.limits)
        if self.type is ResourceType.API_QUOTA and self.per_s is None:
            self.per_s = 60.0
        if self.available is None:
            self.available = self.capacity

    def to_dict(self) -> dict[str, Any]:
        """Every field; enums as their values, the instant as an ISO 8601 text."""
        return _plain_fields(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """What `to_dict` gave; `name` may be missing and is the id then."""
        return _made(cls, {"name": given.get("id"), **given}, "the resource")


@dataclass(frozen=True, slots=True)
class ResourceAllocation:
    """So much of a resource, held by a requester.

    It ends when it is released, when its time is over (`expires_at`), or with the engine that made it. An
    allocation of an `API_QUOTA` is spent at once: it expires in the instant it was made.
    """

    allocation_id: str
    resource_id: str
    requester_id: str
    amount: Amount
    expires_at: datetime | None = None
    allocated_at: datetime | None = None
    gpu_ids: tuple[str, ...] = ()
    """The devices it may use, `gpu-0` and so on."""

    def to_dict(self) -> dict[str, Any]:
        """Every field; instants as ISO 8601 texts."""
        return _plain_fields(self)


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """How much of a resource is in use now; of a quota, how much of what may pass at once is used up."""

    resource_id: str
    total_capacity: Amount
    allocated_amount: Amount = 0
    available_amount: Amount = 0
    allocation_count: int = 0
    utilization_percentage: float = 0.0
    peak_amount: Amount = 0
    """The most that was ever held at once."""

    def to_dict(self) -> dict[str, Any]:
        """Every field."""
        return _plain_fields(self)


def status_of(*, allocated: Amount, available: Amount, offline: bool) -> ResourceStatus:
    """What can be had: nothing held, some, all, or out of service."""
    if offline:
        return ResourceStatus.OFFLINE
    if available <= 0:
        return ResourceStatus.EXHAUSTED
    return ResourceStatus.ALLOCATED if allocated > 0 else ResourceStatus.AVAILABLE


def _member(kind: type[E], given: Any, path: str) -> E:
    try:
        return kind(given.lower() if isinstance(given, str) else given)
    except ValueError:
        allowed = tuple(str(each.value) for each in kind)
        message = f"{given!r} is no {kind.__name__}"
        raise ValidationError(
            [Fault(message=message, path=path, code="wrong_value", got=str(given), allowed=allowed)]
        ) from None


def _made(kind: type[T], given: Mapping[str, Any], subject: str) -> T:
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # called with data classes only
    faults = [
        Fault(
            message=f"there is no {name!r}", path=str(name), code="unknown_key", allowed=tuple(sorted(known))
        )
        for name in given
        if name not in known
    ]
    faults += [
        Fault(message="is missing", path=name, code="missing")
        for name in ("id", "type", "capacity")
        if name in known and given.get(name) is None
    ]
    if faults:
        raise ValidationError(faults, subject=subject)
    values = dict(given)
    if isinstance(values.get("created_at"), str):
        values["created_at"] = datetime.fromisoformat(values["created_at"])
    return kind(**values)


def _plain_fields(value: Any) -> dict[str, Any]:
    return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, ResourceLimits):
        return value.to_dict()
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, dict) else value
