"""ResourceManager: what there is, who holds how much of it, and taking some.

Layer: above the stores and the ledger of the host, below engines. Resources of the *machine* (`sys-compute`,
`sys-memory`, `sys-disk`, `sys-network`, `gpu-0`...) are shared by all engines of the host; *named* ones (locks,
semaphores, quotas, anything) belong to the state. Either is claimed all or nothing, and what is used is always the
sum of the live allocations.

    allocate ──> held ──> release           by whoever knows its id; True once, then False
                     ├──> its time is over   it is free at that instant; cleaning up only removes rows
                     └──> its owner is dead  freed by whoever finds out: an engine, who waits, who opens the state

A quota is spent, not held: its allocation is over in the instant it is made, `release` of it is False, and what was
not needed goes back with `refund`. Resources are found by id or by name; `cpu`, `memory`, `gpu`, `disk`,
`network` and `api_quota` are the machine's and the default quota, and `gpu` is any device.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from codomyrmex.clock import Clock
from codomyrmex.exceptions import Conflict, Fault, ResourceRefused, SettingsError, ValidationError
from codomyrmex.logistics.orchestration.project import rate_quota, resource_register
from codomyrmex.logistics.orchestration.project.machine_holds import PREFIX, MachineHolds
from codomyrmex.logistics.orchestration.project.patient_claims import PatientClaims, Wish
from codomyrmex.logistics.orchestration.project.resource_amounts import (
    WORDS,
    Known,
    from_held,
    machine_type,
    read_amount,
    read_requirements,
    scale_of,
    unknown,
)
from codomyrmex.logistics.orchestration.project.resource_forms import (
    MAX_PERIOD_S,
    read_resource,
    to_allocation,
    to_resource,
    to_usage,
)
from codomyrmex.logistics.orchestration.project.resource_owner import Owner, StateOwner
from codomyrmex.logistics.orchestration.project.resource_register import StoredResource
from codomyrmex.logistics.orchestration.project.resource_request import DEFAULT_QUOTA, UNIT
from codomyrmex.logistics.orchestration.project.resources import (
    Resource,
    ResourceAllocation,
    ResourceType,
    ResourceUsage,
)
from codomyrmex.logistics.storage.database import StoreConstraint, Transaction

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine

LISTED_HOLDERS = 5


class ResourceManager:
    """See the module. Safe for several threads.

    Alone it has a state of its own in memory, or the one in the folder `state`; or it works on `engine`, and what
    it takes ends with that. What it takes alone ends with `close`, with the `with` block or with the process.
    """

    def __init__(
        self,
        *,
        engine: OrchestrationEngine | Owner | None = None,
        state: str | os.PathLike[str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if engine is not None and (state is not None or clock is not None):
            raise SettingsError(
                "a manager on a given engine has that engine's state and clock",
                hint="give state to OrchestrationEngine(...)",
            )
        self._own = StateOwner.open(state, clock=clock) if engine is None else None
        self._owner: Owner = self._own if self._own is not None else _owner_of(engine)
        self._machine = MachineHolds(self._owner)
        self._claims = PatientClaims(self._owner, self._machine)
        # By id, which never means anything else; a resource that is gone is found out by the claim.
        self._kinds: dict[str, Known] = {}
        if self._own is not None:
            self._claims.free_the_dead(at_once=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every wait; a manager alone gives back what it holds and leaves its state. Idempotent."""
        self._claims.close()
        if self._own is not None:
            self._own.close()

    # -- what there is -----------------------------------------------------------------------------

    def add_resource(self, resource: Resource | Mapping[str, Any]) -> bool:
        """Adds a named resource, or changes the one with its id; True.

        A capacity may shrink below what is held: who holds keeps. Raises `ValidationError` with every fault, and
        `Conflict` for a name that another has, or a change of type while some of it is held.
        """
        given = resource if isinstance(resource, Resource) else Resource.from_dict(resource)
        now_us = self._now_us()
        row = read_resource(given, now_us=now_us)
        try:
            with self._owner.database.transaction(barrier=True) as tx:
                self._refuse_confusion(tx, row, now_us)
                resource_register.put(tx, row)
        except StoreConstraint as error:
            raise Conflict(
                f"another resource has the name {row.name!r}", hint="choose another name, or its id"
            ) from error
        self._kinds.pop(row.id, None)
        self._claims.released()
        return True

    def remove_resource(self, resource_id: str, *, force: bool = False) -> bool:
        """Removes a named resource; False where there is none. Raises `Conflict` while it is held.

        With `force` it goes all the same, with every allocation of it.
        """
        with self._owner.database.transaction(barrier=True) as tx:
            stored = self._stored(tx.execute, resource_id)
            if stored is None:
                self._refuse_built_in(resource_id)
                return False
            self._refuse_built_in(stored.id)
            holders = resource_register.holdings(tx.execute, now_us=self._now_us(), resource=stored.id)
            if holders and not force:
                names = ", ".join(each.requester for each in holders[:LISTED_HOLDERS])
                more = f" and {len(holders) - LISTED_HOLDERS} more" if len(holders) > LISTED_HOLDERS else ""
                raise Conflict(
                    f"{stored.name!r} is held by {names}{more}",
                    hint="wait for them, take it offline, or remove it with force",
                )
            resource_register.remove(tx, stored.id)
        self._kinds.pop(stored.id, None)
        self._claims.released()
        return True

    def get_resource(self, resource_id: str) -> Resource | None:
        """A resource as it is now; None where there is none."""
        id = WORDS.get(resource_id, resource_id)
        if machine_type(id) is not None:
            return self._machine.resource(id)
        ask, now_us = self._owner.database.query, self._now_us()
        stored = resource_register.find(ask, id)
        if stored is None:
            return None
        used, _count = resource_register.used(ask, stored.id, now_us=now_us)
        return to_resource(stored, used, now_us=now_us)

    def get_resource_by_name(self, name: str) -> Resource | None:
        """The resource of that name; those of the machine have their ids for names."""
        found = self.get_resource(name)
        return found if found is not None and (found.name == name or name in WORDS) else None

    def list_resources(self, type_filter: ResourceType | str | None = None) -> list[Resource]:
        """Every resource as it is now: the machine's first, then the named ones by id."""
        ask, now_us = self._owner.database.query, self._now_us()
        found = self._machine.resources()
        for stored in resource_register.every(ask):
            used, _count = resource_register.used(ask, stored.id, now_us=now_us)
            found.append(to_resource(stored, used, now_us=now_us))
        if type_filter is None:
            return found
        kind = _type(type_filter)
        return [each for each in found if each.type is kind]

    def set_offline(self, resource_id: str) -> bool:
        """Takes a resource out of service: nobody gets any more of it. False where there is none."""
        return self._set_offline(resource_id, offline=True)

    def set_online(self, resource_id: str) -> bool:
        """Puts a resource back into service. False where there is none."""
        return self._set_offline(resource_id, offline=False)

    # -- taking and giving back --------------------------------------------------------------------

    def allocate(
        self,
        resource_id: str,
        requester_id: str,
        amount: float | str = 1.0,
        wait_s: float = 0,
        ttl_s: float | None = None,
    ) -> ResourceAllocation | None:
        """Takes some of a resource; None when it was not to be had within `wait_s` seconds.

        It ends after `ttl_s` seconds unless it is renewed. Raises `ValidationError` for an amount that cannot be
        counted, `ResourceRefused` for more than there is, than a limit allows, or of what nobody has.
        """
        known = self._known_one(resource_id)
        path = f"allocate({resource_id!r})"
        held = read_amount(amount, known.type, scale_of(known.id), path=path)
        found = self._acquire(requester_id, {known.id: held}, wait_s, ttl_s)
        return found[0] if found else None

    def allocate_resources(
        self,
        requester_id: str,
        requirements: Mapping[str, Any],
        wait_s: float = 0,
        ttl_s: float | None = None,
    ) -> list[ResourceAllocation] | None:
        """Takes all that is asked for or nothing; None when it was not to be had within `wait_s` seconds.

        `requirements` are `{"cpu": 2, "memory": "1GiB", "licence": 1}` or `{"cpu": {"cores": 2}, "memory": {"gb": 1}}`;
        an amount of 0 asks for nothing. The allocations come in that order. Raises as `allocate`.
        """
        wants = read_requirements(requirements, self._known())
        return self._acquire(requester_id, wants, wait_s, ttl_s) if wants else []

    def release(self, allocation_id: str) -> bool:
        """Gives an allocation back, whoever made it: True once, then False, as for one whose time was over."""
        if allocation_id.startswith(PREFIX):
            found = self._machine.release(allocation_id)
        else:
            with self._owner.database.transaction() as tx:
                freed = resource_register.release(tx, allocation_id, now_us=self._now_us())
                others = self._waiting(tx, freed)
            found = freed is not None
            self._nudge(others)
        if found:
            self._claims.released()
        return found

    def deallocate_resources(self, requester_id: str) -> bool:
        """Gives back all that a requester holds, in this process or another; False when it held nothing."""
        with self._owner.database.transaction() as tx:
            freed = resource_register.release_requester(tx, requester_id, now_us=self._now_us())
            others = {epoch for id in set(freed) for epoch in self._waiting(tx, id)}
        found = self._machine.release_requester(requester_id) or bool(freed)
        self._nudge(others)
        if found:
            self._claims.released()
        return found

    def renew(self, allocation_id: str, ttl_s: float | None = None) -> bool:
        """Lets an allocation last for `ttl_s` seconds from now, or without an end; False when it is over already."""
        ttl_us = _ttl_us(ttl_s)
        if allocation_id.startswith(PREFIX):
            return self._machine.renew(allocation_id, self._now_us() + ttl_us if ttl_us is not None else None)
        with self._owner.database.transaction() as tx:
            now_us = self._now_us()
            id = resource_register.resource_of(tx.execute, allocation_id)
            stored = resource_register.find(tx.execute, id) if id is not None else None
            if stored is None:
                return False
            ttl_us = _within(stored, ttl_us)
            expires_us = now_us + ttl_us if ttl_us is not None else None
            return resource_register.renew(tx, allocation_id, expires_us=expires_us, now_us=now_us)

    def refund(self, resource_id: str, amount: float | str) -> bool:
        """Gives back to a quota what was taken and not used; False where there is no such resource.

        Raises `ValidationError` for a resource that is no quota: what is held is released.
        """
        with self._owner.database.transaction() as tx:
            stored = self._stored(tx.execute, resource_id)
            if stored is None:
                return False
            rate = stored.rate
            if rate is None:
                raise _wrong(
                    "resource_id", f"{stored.name!r} is no quota: release the allocation", resource_id
                )
            held = read_amount(amount, ResourceType(stored.type), UNIT, path="amount")
            tat_us = rate_quota.refund(rate, held, tat_us=stored.tat_us)
            resource_register.spend(tx, stored.id, tat_us=tat_us, level=0)
            others = self._waiting(tx, stored.id)
        self._nudge(others)
        self._claims.released()
        return True

    # -- looking -----------------------------------------------------------------------------------

    def get_usage(self, resource_id: str) -> ResourceUsage | None:
        """How much of a resource is in use now; None where there is none."""
        id = WORDS.get(resource_id, resource_id)
        if machine_type(id) is not None:
            return self._machine.usage(id)
        ask, now_us = self._owner.database.query, self._now_us()
        stored = resource_register.find(ask, id)
        if stored is None:
            return None
        used, count = resource_register.used(ask, stored.id, now_us=now_us)
        return to_usage(stored, used, count, now_us=now_us)

    def list_allocations(
        self, resource_id: str | None = None, requester_id: str | None = None
    ) -> list[ResourceAllocation]:
        """What is held now, of one resource or by one requester if given: of the machine, then named, oldest first.

        What attempts of tasks hold of named resources is among it; what they have of the machine is not: that is
        the share of their engine.
        """
        id = WORDS.get(resource_id, resource_id) if resource_id is not None else None
        found = self._machine.allocations(id, requester_id)
        if id is not None and machine_type(id) is None:
            stored = resource_register.find(self._owner.database.query, id)
            id = stored.id if stored is not None else id
        rows = resource_register.holdings(
            self._owner.database.query, now_us=self._now_us(), resource=id, requester=requester_id
        )
        return [*found, *(to_allocation(row) for row in rows)]

    def cleanup_expired_allocations(self) -> int:
        """Removes allocations whose time is over, and what dead owners held; how many were over.

        Of the machine those count that were taken here. All are free from that instant, cleaned up or not.
        """
        with self._owner.database.transaction() as tx:
            count = resource_register.clear_expired(tx, now_us=self._now_us())
        count += self._machine.clear_expired()
        self._claims.free_the_dead(at_once=True)
        self._claims.released()
        return count

    # -- inside ------------------------------------------------------------------------------------

    def _now_us(self) -> int:
        return self._owner.clock.now_us()

    def _acquire(
        self, requester: str, wants: Mapping[str, int], wait_s: float, ttl_s: float | None
    ) -> list[ResourceAllocation] | None:
        if not isinstance(requester, str) or not requester:
            raise _wrong("requester_id", "a requester is a text that is not empty", requester)
        machine = {id: amount for id, amount in wants.items() if machine_type(id) is not None}
        named = {id: amount for id, amount in wants.items() if id not in machine} if machine else wants
        wish = Wish(
            requester=requester,
            machine=machine,
            named=named,
            ttl_us=_ttl_us(ttl_s),
            refused=self._machine.why_never(machine) if machine else (),
        )
        found = self._claims.acquire(wish, wait_s)
        if found is None or len(wants) == 1:
            return found
        order = {id: place for place, id in enumerate(wants)}
        return sorted(found, key=lambda each: order.get(each.resource_id, order.get("gpu", 0)))

    def _known_one(self, word: str) -> Known:
        found = self._kinds.get(word)
        if found is not None:
            return found
        id = WORDS.get(word, word)
        kind = machine_type(id)
        if kind is not None:
            return Known(id, kind)
        stored = resource_register.find(self._owner.database.query, id)
        if stored is None:
            raise unknown(word, self._known())
        found = self._kinds[stored.id] = Known(stored.id, ResourceType(stored.type))
        return found

    def _known(self) -> dict[str, Known]:
        rows = resource_register.known(self._owner.database.query)
        return {name: Known(id, ResourceType(kind)) for name, (id, kind) in rows.items()}

    def _stored(self, ask: resource_register.Ask, word: str) -> StoredResource | None:
        return resource_register.find(ask, WORDS.get(word, word))

    def _refuse_confusion(self, tx: Transaction, row: StoredResource, now_us: int) -> None:
        """An id must not be the name of another, and a type does not change under those who hold."""
        known = resource_register.known(tx.execute)
        for word in (row.id, row.name):
            if known.get(word, (row.id, ""))[0] != row.id:
                raise Conflict(f"another resource is called {word!r}", hint="choose another id or name")
        before = known.get(row.id)
        if before is not None and before[1] != row.type:
            if row.id == DEFAULT_QUOTA:
                raise Conflict(f"{row.id!r} is an api_quota", hint="choose another id")
            if resource_register.used(tx.execute, row.id, now_us=now_us)[1]:
                raise Conflict(
                    f"{row.id!r} is a {before[1]} and some of it is held", hint="remove it first, or wait"
                )

    def _refuse_built_in(self, id: str) -> None:
        if machine_type(WORDS.get(id, id)) is not None or id in (DEFAULT_QUOTA, "api_quota"):
            raise Conflict(f"{id!r} is always there", hint="take it offline, or give it another capacity")

    def _set_offline(self, resource_id: str, *, offline: bool) -> bool:
        id = WORDS.get(resource_id, resource_id)
        if machine_type(id) is not None:
            found = self._machine.set_offline(id, offline=offline)
        else:
            with self._owner.database.transaction(barrier=True) as tx:
                stored = self._stored(tx.execute, id)
                found = stored is not None and resource_register.set_offline(tx, stored.id, offline=offline)
        if found:
            self._claims.released()
        return found

    def _waiting(self, tx: Transaction, id: str | None) -> list[int]:
        if id is None or self._owner.state_dir is None:
            return []
        return resource_register.waiting(tx.execute, id, epoch=self._owner.epoch, now_us=self._now_us())

    def _nudge(self, epochs: list[int] | set[int]) -> None:
        state_dir = self._owner.state_dir
        if not epochs or state_dir is None:
            return
        from codomyrmex.logistics.orchestration.project.nudge import nudge

        for epoch in epochs:
            nudge(state_dir, epoch)


def _owner_of(engine: Any) -> Owner:
    """The host of an engine; whatever else is given is an owner itself."""
    workflows = getattr(engine, "workflows", None)
    owner: Owner = engine if workflows is None else workflows.starter.host
    return owner


def _ttl_us(ttl_s: float | None) -> int | None:
    if ttl_s is None:
        return None
    if isinstance(ttl_s, bool) or not 0 < ttl_s <= MAX_PERIOD_S or round(ttl_s * 1_000_000) == 0:
        raise _wrong(
            "ttl_s", "a time to live is above 0 seconds and at most ten years; None has no end", ttl_s
        )
    return round(ttl_s * 1_000_000)


def _within(stored: StoredResource, ttl_us: int | None) -> int | None:
    """How long an allocation of this resource lasts when so much was asked for."""
    longest_us = stored.limits.get("max_ttl_us")
    if longest_us is None or ttl_us is None:
        return longest_us if ttl_us is None else ttl_us
    if ttl_us > longest_us:
        longest_s = from_held(longest_us, 1_000_000)
        raise ResourceRefused(
            f"an allocation of {stored.name!r} lasts {longest_s} s at most", hint="ask for less"
        )
    return ttl_us


def _type(given: ResourceType | str) -> ResourceType:
    try:
        return ResourceType(given)
    except ValueError:
        allowed = tuple(each.value for each in ResourceType)
        fault = Fault(
            message=f"{given!r} is no type", path="type_filter", code="wrong_value", allowed=allowed
        )
        raise ValidationError([fault], subject="the request") from None


def _wrong(path: str, message: str, given: Any) -> ValidationError:
    fault = Fault(message=message, path=path, code="wrong_value", got=repr(given)[:80])
    return ValidationError([fault], subject="the request")
