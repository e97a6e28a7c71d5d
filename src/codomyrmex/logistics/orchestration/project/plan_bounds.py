"""What no order of the work can beat: the longest path, and the work there is for each resource.

Layer: pure. A run takes at least as long as its longest path, and as the work for a resource divided by how much of
it there is. The largest of these is what the run is bound by; how near a plan comes to it is how good the plan is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.resource_request import GPU
from codomyrmex.logistics.orchestration.project.workflow_plan import Bound, PlannedTask

CRITICAL_PATH = "critical path"


def bounds_of(
    tasks: Sequence[PlannedTask],
    *,
    critical_path_s: float,
    duration_s: float,
    machine: Mapping[str, int],
    named: Iterable[NamedResource],
    workers: int,
    caps: Iterable[tuple[str, int, float]] = (),
) -> tuple[Bound, ...]:
    """The bounds of a plan, the tightest first; `caps` are (name, attempts at once, seconds of work)."""
    found = [Bound(name=CRITICAL_PATH, least_s=critical_path_s)]
    work: dict[str, float] = {}
    for task in tasks:
        for id, amount in task.request.items():
            work[id] = work.get(id, 0.0) + amount * task.duration_s
    slots_s = sum(task.duration_s for task in tasks if task.slot)
    capacities = capacities_of(machine, named)
    for id, amount_s in work.items():
        if capacities.get(id):
            found.append(_bound(id, amount_s / capacities[id], duration_s))
    found += [bound for each in named if (bound := _quota_bound(each, tasks, duration_s)) is not None]
    found.append(_bound("workers", slots_s / workers, duration_s))
    found += [_bound(name, work_s / cap, duration_s) for name, cap, work_s in caps]
    return tuple(sorted(found, key=lambda bound: -bound.least_s))


def capacities_of(machine: Mapping[str, int], named: Iterable[NamedResource]) -> dict[str, int]:
    """How much there is at once, by resource id, all devices together, and by name; rates are none of these."""
    found: dict[str, int] = {}
    for id, amount in machine.items():
        kind = GPU if id.startswith(f"{GPU}-") else id
        found[kind] = found.get(kind, 0) + amount
    found.update({each.name: each.capacity for each in named if each.rate is None})
    return found


def _bound(name: str, least_s: float, duration_s: float) -> Bound:
    return Bound(name=name, least_s=least_s, used=min(1.0, least_s / duration_s) if duration_s else 0.0)


def _quota_bound(quota: NamedResource, tasks: Sequence[PlannedTask], duration_s: float) -> Bound | None:
    """How long a quota takes to let all calls through that are not in its burst; without one, all but the last."""
    rate = quota.rate
    amounts = [amount for task in tasks if (amount := task.request.get(quota.name, 0))]
    if rate is None or not amounts:
        return None
    late = sum(amounts) - (max(amounts) if rate.burst is None else rate.burst)
    if late <= 0:
        return None
    return _bound(quota.name, late * rate.per_us / rate.capacity / 1_000_000, duration_s)
