"""What people hold of the machine, in the ledger of its host: CPUs, memory, disk, network, devices.

Layer: above the ledger. Each allocation is a *hold* there, beside the allotments of engines; the sum of both is
within what there is. Several are taken one after the other, always in the same order, and given back as soon
as one does not fit; it is looked first whether all would fit.

`gpu` stands for any device: whole devices, or a part of one. An allocation of one device has that device's id,
one of several is of `gpu`; `gpu_ids` names them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Final

from codomyrmex.clock import to_datetime
from codomyrmex.exceptions import Conflict
from codomyrmex.logistics.orchestration.project.gpu_choice import choose
from codomyrmex.logistics.orchestration.project.ledger_rows import HoldRow
from codomyrmex.logistics.orchestration.project.resource_amounts import from_held, machine_type, scale_of
from codomyrmex.logistics.orchestration.project.resource_forms import usage_of
from codomyrmex.logistics.orchestration.project.resource_owner import Owner
from codomyrmex.logistics.orchestration.project.resource_request import CPU, DISK, GPU, MEMORY, NETWORK, UNIT
from codomyrmex.logistics.orchestration.project.resources import (
    Resource,
    ResourceAllocation,
    ResourceType,
    ResourceUsage,
    status_of,
)

PREFIX: Final = "host-"
"""Ids of allocations of the machine begin so."""
_DESCRIPTIONS = {
    CPU: "processors of this machine",
    MEMORY: "memory of this machine",
    DISK: "free disk space below the project",
    NETWORK: "bytes per second of this machine's network",
}


class MachineHolds:
    """See the module. Safe for several threads; the ledger is opened by the first call that needs it."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._held = False
        """Whether anything was asked of the machine here: until then its dead are somebody else's business."""
        self._ends: dict[str, int] = {}
        """When what was taken here ends, if it does by itself."""

    # -- holding -----------------------------------------------------------------------------------

    def why_never(self, wants: Mapping[str, int]) -> list[str]:
        """Why so much of the machine can never be had."""
        reasons = []
        capacities = self._capacities(wants)
        for id, amount in wants.items():
            there_is = _total(id, capacities)
            if amount > there_is:
                kind = scale_of(id)
                asked, most = from_held(amount, kind), from_held(there_is, kind)
                reasons.append(f"{asked} of {id!r} were asked for; this machine has {most}")
        return reasons

    def short(self, wants: Mapping[str, int], ahead: Mapping[str, int]) -> tuple[str, ...]:
        """What does not fit now when `ahead` is left to others; () where all of it does."""
        capacities = self._capacities(wants)
        free = self._free(capacities)
        short = []
        for id, amount in wants.items():
            before = ahead.get(id, 0)
            if id == GPU:
                devices = {
                    each: left for each, left in free.items() if machine_type(each) is ResourceType.GPU
                }
                fit = choose(devices, amount) is not None and sum(devices.values()) >= before + amount
            else:
                fit = amount + before <= free.get(id, 0)
            if not fit:
                short.append(id)
        return tuple(short)

    def take(
        self, requester: str, wants: Mapping[str, int], ttl_us: int | None
    ) -> list[ResourceAllocation] | None:
        """Holds all of it, or nothing and says None."""
        self._held = True
        now_us = self._owner.clock.now_us()
        expires_us = now_us + ttl_us if ttl_us is not None else None
        capacities = self._capacities(wants)
        taken: list[ResourceAllocation] = []
        complete = False
        try:
            for id in sorted(wants):
                hold = f"{PREFIX}{os.urandom(16).hex()}"
                found = self._owner.ledger.hold(
                    hold, requester, {id: wants[id]}, capacity=capacities, expires_us=expires_us
                )
                if found is None:
                    return None
                taken.append(_allocation(hold, requester, found, now_us, expires_us))
                self._set_end(hold, expires_us)
            complete = True
        finally:
            if not complete:
                self.give_back(taken)
        return taken

    def give_back(self, allocations: Iterable[ResourceAllocation]) -> None:
        """Ends holds that were just taken."""
        for each in allocations:
            self._end(each.allocation_id)

    def release(self, allocation_id: str) -> bool:
        """Ends a hold; False when its time was over or it was ended before."""
        live = {row.id: row.requester for row in self._owner.ledger.holds()}
        self._refuse_in_use(live.get(allocation_id))
        return self._end(allocation_id) and allocation_id in live

    def release_requester(self, requester: str) -> bool:
        """Ends every hold of a requester; True if there was one."""
        found = False
        self._refuse_in_use(requester)
        for row in self._holds():
            if row.requester == requester:
                found = self._end(row.id) or found
        return found

    def renew(self, allocation_id: str, expires_us: int | None) -> bool:
        """Sets the end of a hold; False for one that is over."""
        renewed = self._owner.ledger.renew_hold(allocation_id, expires_us)
        if renewed:
            self._set_end(allocation_id, expires_us)
        return renewed

    def clear_expired(self) -> int:
        """Removes the holds whose time is over; how many of them were taken here."""
        now_us = self._owner.clock.now_us()
        over = [id for id, end_us in list(self._ends.items()) if end_us <= now_us]
        self.reap()
        return sum(1 for id in over if self._ends.pop(id, None) is not None)

    def reap(self) -> int:
        """Removes what dead holders left, and holds whose time is over; how many rows."""
        return self._owner.ledger.reap() if self._held else 0

    # -- looking -----------------------------------------------------------------------------------

    def allocations(
        self, resource: str | None = None, requester: str | None = None
    ) -> list[ResourceAllocation]:
        """The live holds, the oldest first."""
        found = []
        for row in self._holds():
            each = _allocation(row.id, row.requester, row.amounts, row.since_us, row.expires_us)
            if requester in (None, row.requester) and (
                resource in (None, each.resource_id) or resource in each.gpu_ids
            ):
                found.append(each)
        return found

    def resources(self) -> list[Resource]:
        """What the machine has, as it is now: CPU, memory, disk, network, then the devices by number."""
        capacities = self._owner.capacities(gpu=True)
        used, offline = self._owner.ledger.used(), self._owner.ledger.offline()
        return [
            _resource(id, there_is, used.get(id, 0), id in offline) for id, there_is in capacities.items()
        ]

    def resource(self, id: str) -> Resource | None:
        """One of them; None where the machine has none such."""
        return next((each for each in self.resources() if each.id == id), None)

    def usage(self, id: str) -> ResourceUsage | None:
        """How much of it is in use."""
        found = self._capacities((id,)).get(id)
        if found is None:
            return None
        used = self._owner.ledger.used().get(id, 0)
        count = sum(1 for each in self._owner.ledger.allotments() if each.resource == id)
        count += len(self.allocations(id))
        peak = self._owner.ledger.peaks().get(id, 0)
        free = max(0, found - used)
        return usage_of(id, found, used, free, count=count, peak=max(peak, used), scale=scale_of(id))

    def set_offline(self, id: str, *, offline: bool) -> bool:
        """Takes a part of the machine out of service or back, for every engine on it; False if it has none such."""
        if id not in self._capacities((id,)):
            return False
        self._owner.ledger.set_offline(id, offline)
        return True

    def _refuse_in_use(self, requester: str | None) -> None:
        """Attempts cannot be moved: given back, what they run on would be somebody else's at once."""
        if requester is not None and self._owner.uses_holding(requester):
            raise Conflict(
                f"attempts of session {requester!r} run on what it holds of the machine",
                hint="wait for its runs to end, or cancel them, then give it back",
            )

    def _end(self, id: str) -> bool:
        self._ends.pop(id, None)
        return self._owner.ledger.release_hold(id) is not None

    def _set_end(self, id: str, expires_us: int | None) -> None:
        if expires_us is None:
            self._ends.pop(id, None)
        else:
            self._ends[id] = expires_us

    def _holds(self) -> list[HoldRow]:
        return self._owner.ledger.holds()

    def _capacities(self, wants: Iterable[str]) -> dict[str, int]:
        gpu = any(machine_type(id) is ResourceType.GPU for id in wants)
        return self._owner.capacities(gpu=gpu)

    def _free(self, capacities: Mapping[str, int]) -> dict[str, int]:
        used, offline = self._owner.ledger.used(), self._owner.ledger.offline()
        return {
            id: max(0, there_is - used.get(id, 0)) for id, there_is in capacities.items() if id not in offline
        }


def _total(id: str, capacities: Mapping[str, int]) -> int:
    if id != GPU:
        return capacities.get(id, 0)
    return sum(amount for each, amount in capacities.items() if machine_type(each) is ResourceType.GPU)


def _resource(id: str, there_is: int, used: int, offline: bool) -> Resource:
    kind = machine_type(id)
    assert kind is not None, id
    scale = scale_of(id)
    out = offline or (
        kind is ResourceType.GPU and there_is == 0
    )  # a process of somebody else's computes on it
    capacity = UNIT if kind is ResourceType.GPU else there_is
    free = 0 if out else max(0, capacity - used)
    return Resource(
        id=id,
        name=id,
        type=kind,
        capacity=from_held(capacity, scale),
        description=_DESCRIPTIONS.get(id, "a GPU of this machine"),
        allocated=from_held(used, scale),
        available=from_held(free, scale),
        status=status_of(allocated=used, available=free, offline=out),
    )


def _allocation(
    id: str, requester: str, amounts: Mapping[str, int], since_us: int, expires_us: int | None
) -> ResourceAllocation:
    gpus = tuple(sorted((each for each in amounts if machine_type(each) is ResourceType.GPU), key=_index))
    resource = GPU if len(gpus) > 1 else next(iter(amounts))
    return ResourceAllocation(
        allocation_id=id,
        resource_id=resource,
        requester_id=requester,
        amount=from_held(sum(amounts.values()), scale_of(resource)),
        expires_at=to_datetime(expires_us) if expires_us is not None else None,
        allocated_at=to_datetime(since_us),
        gpu_ids=gpus,
    )


def _index(id: str) -> int:
    return int(id.rpartition("-")[2])
