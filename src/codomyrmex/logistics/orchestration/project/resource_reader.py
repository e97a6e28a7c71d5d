"""Resources as readers see them, from committed rows alone: those of a state, and those of the machine.

Layer: above the stores; beside `run_reader`. It opens nothing and writes nothing, so any process may use it
while engines work. What is used is summed up here again, as everywhere: there is no counter to read.

A resource is found by its id or its name; the words of `resources:` (`cpu`, `memory`...) stand for the machine's.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from codomyrmex.clock import to_datetime
from codomyrmex.exceptions import ResourceNotFound
from codomyrmex.logistics.orchestration.project import engine_store, rate_quota
from codomyrmex.logistics.orchestration.project.amount_words import size_text
from codomyrmex.logistics.orchestration.project.host_ledger import AllotmentRow, HoldRow, HostLedger
from codomyrmex.logistics.orchestration.project.machine import Gpu, Machine
from codomyrmex.logistics.orchestration.project.rate_quota import Rate
from codomyrmex.logistics.orchestration.project.resource_amounts import WORDS, machine_type, scale_of
from codomyrmex.logistics.orchestration.project.resource_forms import quota_level
from codomyrmex.logistics.orchestration.project.resource_request import GPU, UNIT
from codomyrmex.logistics.orchestration.project.resource_store import WAIT_COUNTS_FOR_US
from codomyrmex.logistics.orchestration.project.resource_views import HOST, HolderView, ResourceView
from codomyrmex.logistics.orchestration.project.states import ResourceType
from codomyrmex.logistics.storage.database import Database, Row
from codomyrmex.workspace import STATE_FOLDER

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
    allocation.expires_at
FROM allocation JOIN resource ON resource.id = allocation.resource
LEFT JOIN engine ON engine.epoch = allocation.epoch
LEFT JOIN run ON run.number = allocation.run
WHERE (?1 IS NULL OR allocation.resource = ?1) AND (allocation.expires_at IS NULL OR allocation.expires_at > ?2)
ORDER BY allocation.resource, allocation.since, allocation.id
"""


def read_resources(database: Database, *, now_us: int) -> list[ResourceView]:
    """Every resource of a state, sorted by name."""
    return [_view(row, now_us) for row in database.query(RESOURCES, (now_us, now_us - WAIT_COUNTS_FOR_US))]


def read_holders(
    database: Database, state_dir: Path | None, *, now_us: int, resource_id: str | None = None
) -> list[HolderView]:
    """Who holds what of a state's resources, the oldest first; all of them, or those of one."""
    rows = database.query(HOLDERS, (resource_id, now_us))
    engines = engine_store.living(database) if rows else []
    alive = {row.epoch for row in engines if not engine_store.dead(row, state_dir, now_us=now_us)}
    return [_holder(row, alive) for row in rows]


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


def read_use(ledger: HostLedger, is_dead: Callable[[int], bool]) -> MachineUse:
    """What the ledger says now; `is_dead` is asked of the number of a holder. Rows of the dead still count."""
    waiting: dict[str, int] = {}
    for wait in ledger.waits():
        for id in wait.amounts if wait.lives else ():
            waiting[id] = waiting.get(id, 0) + 1
    allotted = [
        _machine_holder(row.resource, row.amount, row, "engine", is_dead) for row in ledger.allotments()
    ]
    held = [
        _machine_holder(id, amount, row, row.requester, is_dead)
        for row in ledger.holds()
        for id, amount in row.amounts.items()
    ]
    return MachineUse(
        holders=sorted(allotted + held, key=lambda each: each.resource),
        peaks=ledger.peaks(),
        waiting=waiting,
        offline=ledger.offline(),
    )


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
    if WORDS.get(name) == GPU:
        devices = any(each.type == GPU for each in by_name.values())
        raise ResourceNotFound(
            name,
            hint="it means any device: codomyrmex resources list --type gpu lists them"
            if devices
            else "this machine has none that is known; resources.gpu in config.toml says how many there are",
        )
    near = get_close_matches(name, by_name, n=1, cutoff=0.5)
    raise ResourceNotFound(
        name, nearest=near[0] if near else None, hint="codomyrmex resources list shows what there is"
    )


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
        waiting=use.waiting.get(GPU if gpu is not None else id, 0),
        offline=offline,
    )


def _machine_holder(
    id: str, amount: int, row: AllotmentRow | HoldRow, holder: str, is_dead: Callable[[int], bool]
) -> HolderView:
    kind = machine_type(id)
    hold = row if isinstance(row, HoldRow) else None
    return HolderView(
        resource=id,
        type=kind.value if kind is not None else ResourceType.CUSTOM.value,
        amount=amount,
        parts=scale_of(id),
        holder=holder,
        allocation_id=hold.id if hold is not None else None,
        pid=row.pid,
        project=_project_of(row.state) if isinstance(row, AllotmentRow) else None,
        gone=is_dead(row.holder),
        since=to_datetime(row.since_us),
        expires_at=to_datetime(hold.expires_us) if hold is not None and hold.expires_us is not None else None,
    )


def _project_of(state: str) -> str:
    """The folder that people know; a state that lies elsewhere is its own."""
    folder = Path(state)
    return str(folder.parent if folder.name == STATE_FOLDER else folder)


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
    """Of a quota: what is used up of it, what would pass now, and when the next unit passes where nothing does."""
    level = quota_level(rate, tat_us=tat_us, now_us=now_us)
    most = rate.capacity if rate.burst is None else rate.burst
    passage = rate_quota.claim(rate, min(UNIT, most), tat_us=tat_us, now_us=now_us)
    if passage.tat_us is None:
        return level, 0, passage.retry_us
    return level, most if rate.burst is None else max(0, most - level), None


def _holder(row: Row, alive: Container[int]) -> HolderView:
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
        gone=epoch not in alive,
        since=to_datetime(since),
        expires_at=to_datetime(expires) if expires is not None else None,
    )
