"""Resources as readers see them, from committed rows alone: those of a state, and those of the machine.

Layer: above the stores; beside `run_reader`. It opens nothing and writes nothing, so any process may use it
while engines work. What is used is summed up here again, as everywhere: there is no counter to read.

A resource is found by its id or its name; the words of `resources:` (`cpu`, `memory`...) stand for the machine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from codomyrmex.clock import to_datetime
from codomyrmex.exceptions import NotFound
from codomyrmex.logistics.orchestration.project import rate_quota
from codomyrmex.logistics.orchestration.project.amount_words import size_text
from codomyrmex.logistics.orchestration.project.machine import Gpu, Machine
from codomyrmex.logistics.orchestration.project.rate_quota import Rate
from codomyrmex.logistics.orchestration.project.resource_amounts import WORDS, machine_type, scale_of
from codomyrmex.logistics.orchestration.project.resource_request import UNIT
from codomyrmex.logistics.orchestration.project.resource_store import WAIT_COUNTS_FOR_US
from codomyrmex.logistics.orchestration.project.resource_views import HOST, HolderView, ResourceView
from codomyrmex.logistics.storage.database import Database, Row

RESOURCES = """
SELECT id, name, type, capacity, per_us, burst, tat_us, offline, peak, description,
    (SELECT coalesce(sum(amount), 0) FROM allocation
     WHERE resource = resource.id AND pool IS NULL AND (expires_at IS NULL OR expires_at > ?1)),
    (SELECT count(*) FROM allocation
     WHERE resource = resource.id AND (expires_at IS NULL OR expires_at > ?1)),
    (SELECT count(*) FROM resource_wait WHERE resource = resource.id AND seen_at > ?2)
FROM resource ORDER BY name
"""
HOLDERS = """
SELECT allocation.id, allocation.resource, resource.type, allocation.amount, allocation.requester, allocation.pool,
    allocation.epoch, engine.pid, engine.host, run.id, allocation.attempt, allocation.since,
    allocation.expires_at, engine.token, engine.boot_id, engine.lease_until, engine.ended_at
FROM allocation JOIN resource ON resource.id = allocation.resource
LEFT JOIN engine ON engine.epoch = allocation.epoch
LEFT JOIN run ON run.number = allocation.run
WHERE (?1 IS NULL OR allocation.resource = ?1) AND (allocation.expires_at IS NULL OR allocation.expires_at > ?2)
ORDER BY allocation.resource, allocation.since, allocation.id
"""


class ResourceNotFound(NotFound):
    """Neither the machine nor the state has a resource of this name."""

    code = "resource_not_found"
    noun = "resource"


def read_resources(database: Database, *, now_us: int) -> list[ResourceView]:
    """Every resource of a state, sorted by name."""
    return [_view(row, now_us) for row in database.query(RESOURCES, (now_us, now_us - WAIT_COUNTS_FOR_US))]


def read_holders(database: Database, *, now_us: int, resource_id: str | None = None) -> list[HolderView]:
    """Who holds what of a state's resources, the oldest first; all of them, or those of one."""
    return [_holder(row) for row in database.query(HOLDERS, (resource_id, now_us))]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineUse:
    """What the ledger of the host says of the machine, by resource id."""

    holders: Sequence[HolderView] = ()
    peaks: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    offline: frozenset[str] = frozenset()

    def of(self, resource_id: str) -> list[HolderView]:
        """Who holds some of one resource."""
        return [each for each in self.holders if each.resource == resource_id]


def read_machine(machine: Machine, use: MachineUse | None) -> list[ResourceView]:
    """What the machine has; without `use` each engine counts by itself and nobody can tell what is held."""
    devices = {gpu.id: gpu for gpu in machine.gpus}
    return [
        _machine_view(id, capacity, use, devices.get(id)) for id, capacity in machine.capacities().items()
    ]


def find_resource(found: Iterable[ResourceView], name: str) -> ResourceView:
    """The resource of this id, name or word; raises `ResourceNotFound` with the nearest."""
    by_name: dict[str, ResourceView] = {}
    for each in found:
        by_name[each.name] = each
        by_name[each.id] = each
    wanted = by_name.get(WORDS.get(name, name)) if name not in by_name else by_name[name]
    if wanted is not None:
        return wanted
    near = get_close_matches(name, by_name, n=1, cutoff=0.5)
    raise ResourceNotFound(name, nearest=near[0] if near else None)


def _machine_view(id: str, capacity: int, use: MachineUse | None, gpu: Gpu | None) -> ResourceView:
    kind = machine_type(id)
    assert kind is not None, id
    found = ResourceView(
        id=id,
        name=id,
        type=kind.value,
        capacity=capacity,
        parts=scale_of(id),
        scope=HOST,
        offline=gpu is not None and gpu.busy,
        allocated=None,
        peak=None,
        holders=None,
        description=_device_text(gpu) if gpu is not None else "",
    )
    if use is None:
        return found
    holders = use.of(id)
    allocated = sum(each.amount for each in holders)
    offline = found.offline or id in use.offline
    return replace(
        found,
        allocated=allocated,
        available=0 if offline else max(0, capacity - allocated),
        peak=use.peaks.get(id, 0),
        holders=len(holders),
        waiting=use.waiting.get(id, 0),
        offline=offline,
    )


def _device_text(gpu: Gpu) -> str:
    memory = f"{size_text(gpu.memory_bytes)} of memory" if gpu.memory_bytes else ""
    busy = "a process of somebody else is on it" if gpu.busy else ""
    return ", ".join(part for part in (gpu.name, memory, busy) if part)


def _view(row: Row, now_us: int) -> ResourceView:
    (
        id, name, type, capacity, per_us, burst, tat_us, offline, peak, description, used, holders, waiting,
    ) = row  # fmt: skip
    free_us = None
    available = max(0, capacity - used)
    if per_us and capacity:
        rate = Rate(capacity=capacity, per_us=per_us, burst=burst)
        used, available, free_us = _quota_use(rate, tat_us, now_us)
    return ResourceView(
        id=id,
        name=name,
        type=type,
        capacity=capacity,
        allocated=used,
        available=0 if offline else available,
        peak=peak,
        holders=holders,
        waiting=waiting,
        offline=bool(offline),
        per_s=per_us / 1_000_000 if per_us else None,
        burst=burst,
        free_at=to_datetime(free_us) if free_us is not None else None,
        description=description,
    )


def _quota_use(rate: Rate, tat_us: int, now_us: int) -> tuple[int, int, int | None]:
    """Of a quota: what is used up of what may pass at once, what could pass now, and when the next unit passes."""
    most = rate.capacity if rate.burst is None else rate.burst
    behind_us = max(0, min(tat_us, now_us + rate.per_us + rate.cost_us(most)) - now_us)
    used = min(most, -(-behind_us * rate.capacity // rate.per_us))
    one = min(UNIT, most)
    passage = rate_quota.claim(rate, one, tat_us=tat_us, now_us=now_us)
    if passage.tat_us is None:
        return used, 0, passage.retry_us
    return used, most - used, None


def _holder(row: Row) -> HolderView:
    (
        id, resource, type, amount, requester, pool, epoch, pid, host, run_id, attempt, since, expires,
    ) = row  # fmt: skip
    # What a task holds is written under its name.
    task = requester.rpartition("/")[2] if run_id is not None else None
    return HolderView(
        resource=resource,
        type=type,
        amount=amount,
        holder=f"{run_id}/{task}" if task is not None else requester,
        allocation_id=id,
        execution_id=run_id,
        task=task,
        attempt=attempt,
        pool=pool,
        engine=epoch,
        pid=pid,
        host=host,
        since=to_datetime(since),
        expires_at=to_datetime(expires) if expires is not None else None,
    )
