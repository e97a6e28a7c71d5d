"""Named resources as people give them and see them, and as the register keeps them.

Layer: beside `resource_register`; reads and writes nothing. Everything that is wrong with a resource is found
here before it is stored. Of a quota, what is *allocated* is what of it is used up at this moment, and what is
*available* is what would pass at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from codomyrmex.clock import to_datetime
from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.rate_quota import Rate
from codomyrmex.logistics.orchestration.project.resource_amounts import (
    WORDS,
    AmountFault,
    from_held,
    machine_type,
    to_held,
)
from codomyrmex.logistics.orchestration.project.resource_register import Holding, StoredResource
from codomyrmex.logistics.orchestration.project.resource_request import UNIT
from codomyrmex.logistics.orchestration.project.resources import (
    Resource,
    ResourceAllocation,
    ResourceLimits,
    ResourceStatus,
    ResourceType,
    ResourceUsage,
    status_of,
)

MAX_PERIOD_S = 10 * 366 * 86400.0
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_LIMIT_AMOUNTS = ("max_per_request", "max_per_requester")


def read_resource(resource: Resource, *, now_us: int) -> StoredResource:
    """A row for a resource as it was given; raises `ValidationError` with every fault."""
    faults = [*_name_faults(resource.id, "id"), *_name_faults(resource.name, "name")]
    reader = _Reader(resource.type, faults)
    quota = resource.type is ResourceType.API_QUOTA
    capacity = reader.amount("capacity", resource.capacity)
    if quota and capacity == 0:
        faults.append(_fault("capacity", "a quota lets more than nothing pass", resource.capacity))
    per_us = burst = None
    if quota:
        per_us = reader.microseconds("per_s", resource.per_s)
        burst = None if resource.burst is None else reader.positive("burst", resource.burst)
    elif resource.per_s is not None or resource.burst is not None:
        faults.append(_fault("per_s", "only an api_quota has `per_s` and `burst`", resource.per_s))
    limits = _read_limits(resource.limits or ResourceLimits(), reader)
    if faults:
        raise ValidationError(faults, subject=f"the resource {resource.id!r}")
    return StoredResource(
        id=resource.id,
        name=resource.name,
        type=resource.type.value,
        capacity=capacity,
        per_us=per_us,
        burst=burst,
        tat_us=0,
        offline=False,
        peak=0,
        description=resource.description,
        limits=limits,
        metadata=dict(resource.metadata),
        created_us=now_us,
    )


def to_resource(stored: StoredResource, used: int, *, now_us: int) -> Resource:
    """What people see of a row of which so much is held."""
    allocated, available = levels(stored, used, now_us=now_us)
    return Resource(
        id=stored.id,
        name=stored.name,
        type=ResourceType(stored.type),
        capacity=from_held(stored.capacity, UNIT),
        description=stored.description,
        limits=_to_limits(stored.limits) if stored.limits else None,
        per_s=from_held(stored.per_us, 1_000_000) if stored.per_us is not None else None,
        burst=from_held(stored.burst, UNIT) if stored.burst is not None else None,
        metadata=stored.metadata,
        allocated=from_held(allocated, UNIT),
        available=from_held(available, UNIT),
        status=_status(allocated, available, stored.offline),
        created_at=to_datetime(stored.created_us),
    )


def to_usage(stored: StoredResource, used: int, count: int, *, now_us: int) -> ResourceUsage:
    """How much of a row is in use."""
    allocated, available = levels(stored, used, now_us=now_us)
    return usage_of(
        stored.id, at_once(stored), allocated, available, count=count, peak=stored.peak, scale=UNIT
    )


def usage_of(
    id: str, total: int, allocated: int, available: int, *, count: int, peak: int, scale: int
) -> ResourceUsage:
    """Whole numbers as people read them; `scale` of them are one of what people count in."""
    return ResourceUsage(
        resource_id=id,
        total_capacity=from_held(total, scale),
        allocated_amount=from_held(allocated, scale),
        available_amount=from_held(available, scale),
        allocation_count=count,
        utilization_percentage=round(100.0 * allocated / total, 4) if total else 0.0,
        peak_amount=from_held(peak, scale),
    )


def to_allocation(holding: Holding) -> ResourceAllocation:
    """What people see of a live allocation."""
    expires_us = holding.expires_us
    return ResourceAllocation(
        allocation_id=holding.id,
        resource_id=holding.resource,
        requester_id=holding.requester,
        amount=from_held(holding.amount, UNIT),
        expires_at=to_datetime(expires_us) if expires_us is not None else None,
        allocated_at=to_datetime(holding.since_us),
    )


def at_once(stored: StoredResource) -> int:
    """The most that can be held, or pass, at one moment."""
    return stored.burst if stored.per_us is not None and stored.burst is not None else stored.capacity


def levels(stored: StoredResource, used: int, *, now_us: int) -> tuple[int, int]:
    """(held, to be had) of a row; who holds keeps when a capacity shrinks, so the first may exceed it."""
    rate = stored.rate
    if rate is None:
        return used, max(0, stored.capacity - used)
    gone = quota_level(rate, tat_us=stored.tat_us, now_us=now_us)
    if rate.burst is None:
        return gone, 0 if gone else stored.capacity
    return gone, max(0, rate.burst - gone)


def quota_level(rate: Rate, *, tat_us: int, now_us: int) -> int:
    """What of a quota is used up and has not come back yet; rounded up."""
    return -(-max(0, tat_us - now_us) * rate.capacity // rate.per_us)


class _Reader:
    """Reads the amounts of one resource and gathers their faults."""

    def __init__(self, kind: ResourceType, faults: list[Fault]) -> None:
        self._kind = kind
        self._faults = faults

    def amount(self, path: str, given: Any) -> int:
        try:
            return to_held(given, self._kind, UNIT)
        except AmountFault as error:
            self._faults.append(_fault(path, str(error), given, error.advice))
            return 0

    def positive(self, path: str, given: Any) -> int:
        held = self.amount(path, given)
        if held == 0 and not any(fault.path == path for fault in self._faults):
            self._faults.append(_fault(path, "is above 0", given))
        return held

    def microseconds(self, path: str, given: Any) -> int:
        number = isinstance(given, int | float) and not isinstance(given, bool)
        if not number or not 0 < given <= MAX_PERIOD_S or round(given * 1_000_000) == 0:
            self._faults.append(_fault(path, "is seconds: above 0, at most ten years", given))
            return 1
        return round(Fraction(repr(given)) * 1_000_000)


def _name_faults(name: Any, path: str) -> list[Fault]:
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        advice = "letters, digits, `_`, `.` and `-`, a letter first, at most 128"
        return [_fault(path, "is no name", name, advice)]
    if name in WORDS or machine_type(name) is not None:
        advice = "take another name; how much the machine has is set by `resources.*` in config.toml"
        return [_fault(path, f"{name!r} is what the machine has", name, advice)]
    return []


def _read_limits(limits: ResourceLimits, reader: _Reader) -> dict[str, int]:
    read: dict[str, Callable[[str, Any], int]] = dict.fromkeys(_LIMIT_AMOUNTS, reader.positive)
    read["max_ttl_s"] = reader.microseconds
    found = {}
    for name, given in limits.to_dict().items():
        found["max_ttl_us" if name == "max_ttl_s" else name] = read[name](f"limits.{name}", given)
    return found


def _to_limits(stored: dict[str, int]) -> ResourceLimits:
    found = {name: from_held(stored[name], UNIT) for name in _LIMIT_AMOUNTS if name in stored}
    max_ttl_us = stored.get("max_ttl_us")
    return ResourceLimits(**found, max_ttl_s=from_held(max_ttl_us, 1_000_000) if max_ttl_us else None)


def _status(allocated: int, available: int, offline: bool) -> ResourceStatus:
    return status_of(allocated=allocated, available=available, offline=offline)


def _fault(path: str, message: str, given: Any, advice: str | None = None) -> Fault:
    return Fault(message=message, path=path, code="wrong_value", got=repr(given)[:80], advice=advice)
