"""What one engine may give out of the machine: its allotments, how much of them is free, and pools.

Layer: pure. The host's ledger allots; this only counts. `cpu_milli` is the free part of what almost every
attempt asks for and so has an attribute of its own; everything else is looked up by its id. GPUs are counted one by
one, because a fraction of a device is of no use on another.

A *pool* is what a session holds beside the engine's allotments: its own runs are served out of it, for those
resources that it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from codomyrmex.logistics.orchestration.project.gpu_choice import choose
from codomyrmex.logistics.orchestration.project.resource_request import CPU, GPU

_GPU_PREFIX = f"{GPU}-"
Amounts = tuple[tuple[str, int], ...]


class MachineTaken(NamedTuple):
    """What a claim took, devices by their own ids: of the engine's share, and out of the pool of a session."""

    own: Amounts = ()
    pooled: Amounts = ()
    pool: str | None = None

    @property
    def gpus(self) -> tuple[str, ...]:
        """The devices among it."""
        return tuple(id for id, _ in (*self.own, *self.pooled) if id.startswith(_GPU_PREFIX))


class MachineShare:
    """See the module. Amounts are whole numbers by resource id (see `resource_request`)."""

    def __init__(self, capacities: Mapping[str, int]) -> None:
        self.capacities = dict(capacities)
        """The most that this engine may ever have."""
        self.allotted: dict[str, int] = {}
        self.cpu_milli = 0
        """What is free of the CPUs that it was allotted."""
        self._pools: dict[str, dict[str, int]] = {}
        """{session: {id: what is left of what it holds}}."""
        self._pool_used: dict[tuple[str, str], int] = {}
        self.plain_free: dict[str, int] = {}
        """What is free of everything but CPUs and devices, by id."""
        self._gpus: dict[str, int] = {}

    @classmethod
    def whole(cls, capacities: Mapping[str, int]) -> MachineShare:
        """All there is, from the beginning: nobody else is asked."""
        share = cls(capacities)
        share.grow(capacities)
        return share

    @property
    def has_all_cpus(self) -> bool:
        """True when there are no more CPUs to be had."""
        return self.allotted.get(CPU, 0) >= self.capacities.get(CPU, 0)

    @property
    def is_whole(self) -> bool:
        """True when there is nothing more to be had of anything."""
        return self.allotted == self.capacities

    def grow(self, granted: Mapping[str, int]) -> None:
        """More was allotted."""
        for id, amount in granted.items():
            self.allotted[id] = self.allotted.get(id, 0) + amount
            self._add(id, amount)

    def shrink(self, amounts: Mapping[str, int]) -> None:
        """A free part goes back."""
        self.grow({id: -amount for id, amount in amounts.items()})

    def free(self) -> dict[str, int]:
        """What no attempt uses of what was allotted, by id."""
        found = {CPU: self.cpu_milli, **self.plain_free, **self._gpus}
        return {id: amount for id, amount in found.items() if amount > 0}

    def set_pools(self, held: Mapping[str, Mapping[str, int]]) -> None:
        """What sessions hold now; what their attempts already took of it stays taken."""
        self._pools = {
            pool: {id: amount - self._pool_used.get((pool, id), 0) for id, amount in amounts.items()}
            for pool, amounts in held.items()
        }

    def pools_in_use(self) -> set[str]:
        """The sessions on whose holding attempts run now."""
        return {pool for (pool, _id), used in list(self._pool_used.items()) if used > 0}

    def has(self, id: str, amount: int, pool: str | None) -> bool:
        """Whether so much is free; `gpu` stands for any device."""
        if id == GPU:
            return choose(self._devices(pool), amount) is not None
        return amount <= self._left(id, pool)

    def has_pool(self, pool: str) -> bool:
        """Whether a session holds anything of the machine."""
        return pool in self._pools

    def source(self, id: str, pool: str | None) -> tuple[str | None, str]:
        """What such a request is served out of: the pool of a session, or (None) this engine's share."""
        return (pool if self._pooled(id, pool) else None), id

    def left(self, id: str, pool: str | None, *, more: bool) -> int:
        """How much is free there, of everything but devices; with `more` also what has only to be asked for."""
        left = self._left(id, pool)
        if more and not self._pooled(id, pool):
            left += self.capacities.get(id, 0) - self.allotted.get(id, 0)
        return left

    def missing(self, id: str, amount: int, pool: str | None) -> int | None:
        """How much more has to be allotted before so much is free; None where that cannot be."""
        if self.has(id, amount, pool):
            return 0
        if self._pooled(id, pool):
            return None
        if id == GPU:
            # All of what it needs: the devices that this engine has idle count towards it.
            room = {
                each: most - self.allotted.get(each, 0) + self._gpus.get(each, 0)
                for each, most in self.capacities.items()
                if each.startswith(_GPU_PREFIX)
            }
            return amount if choose(room, amount) is not None else None
        short = amount - self._left(id, None)
        return short if short <= self.capacities.get(id, 0) - self.allotted.get(id, 0) else None

    def growth(self, head: Mapping[str, int], want: Mapping[str, int]) -> dict[str, int]:
        """What to ask for: `head` at least, and beyond it what all that waits could use and there is at all."""
        found = dict(head)
        for id, amount in want.items():
            if id == GPU:
                continue  # devices are asked for one attempt at a time
            more = amount - (self.cpu_milli if id == CPU else self.plain_free.get(id, 0))
            room = self.capacities.get(id, 0) - self.allotted.get(id, 0)
            most = max(found.get(id, 0), min(more, room))
            if most > 0:
                found[id] = most
        return found

    def take(self, amounts: Amounts, pool: str | None) -> MachineTaken:
        """Takes what `has` said is there."""
        own: list[tuple[str, int]] = []
        pooled: list[tuple[str, int]] = []
        for id, amount in amounts:
            bag = pooled if self._pooled(id, pool) else own
            if id == GPU:
                chosen = choose(self._devices(pool), amount)
                assert chosen, amount
                bag += [(device, amount // len(chosen)) for device in chosen]
            else:
                bag.append((id, amount))
        taken = MachineTaken(tuple(own), tuple(pooled), pool)
        self.count(taken, 1)
        return taken

    def count(self, taken: MachineTaken, sign: int) -> None:
        """Takes it out of what is free (`sign` 1), or puts it back (-1)."""
        for id, amount in taken.own:
            self._add(id, -sign * amount)
        for id, amount in taken.pooled:
            assert taken.pool is not None
            key = (taken.pool, id)
            self._pool_used[key] = self._pool_used.get(key, 0) + sign * amount
            left = self._pools.get(taken.pool, {})
            if id in left:
                left[id] -= sign * amount

    def _left(self, id: str, pool: str | None) -> int:
        if pool is not None and self._pooled(id, pool):
            return self._pools[pool][id]
        return self.cpu_milli if id == CPU else self.plain_free.get(id, 0)

    def _pooled(self, id: str, pool: str | None) -> bool:
        """True where a session holds such a resource, so that its runs are served out of that."""
        mine = self._pools.get(pool) if pool is not None else None
        if mine is None:
            return False
        return any(each.startswith(_GPU_PREFIX) for each in mine) if id == GPU else id in mine

    def _devices(self, pool: str | None) -> Mapping[str, int]:
        if pool is not None and self._pooled(GPU, pool):
            return {id: left for id, left in self._pools[pool].items() if id.startswith(_GPU_PREFIX)}
        return self._gpus

    def _add(self, id: str, amount: int) -> None:
        if id == CPU:
            self.cpu_milli += amount
        else:
            bag = self._gpus if id.startswith(_GPU_PREFIX) else self.plain_free
            bag[id] = bag.get(id, 0) + amount
