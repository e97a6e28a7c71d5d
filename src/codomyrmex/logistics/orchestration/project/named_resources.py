"""What an engine knows of the resources that its state limits: locks, semaphores, quotas.

Layer: pure. A photograph of the store's rows on which a drain plans; claims that are planned are counted
here at once, and are taken back when the transaction was refused. The store has the last word: each claim is
a guarded statement there, and one that does not fit after all makes the engine look again.

Nobody takes what another engine has waited for longer: `owed` is kept free for waits that are older than this
engine's own. So two engines at one lock take turns, although the release and the next claim of one of them
stand in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from codomyrmex.logistics.orchestration.project import rate_quota
from codomyrmex.logistics.orchestration.project.rate_quota import Rate

Amounts = tuple[tuple[str, int], ...]
"""(name, amount) pairs, sorted by name."""


class OtherWait(NamedTuple):
    """Another engine waits for so much."""

    epoch: int
    amount: int
    since_us: int


@dataclass(slots=True, kw_only=True)
class NamedResource:
    """One resource as its row and the sums of its allocations say; amounts in ten-thousandths of a unit."""

    id: str
    name: str
    type: str
    capacity: int
    rate: Rate | None = None
    tat_us: int = 0
    offline: bool = False
    used: int = 0
    used_by_others: int = 0
    waits: list[OtherWait] = field(default_factory=list)
    """Of other engines, the oldest first."""


class Block(NamedTuple):
    """Why a claim does not pass now.

    `retry_us` is when a quota lets it through; `pool` is the session out of whose holding it would come.
    """

    resource: str
    short_by: int = 0
    retry_us: int | None = None
    pool: str | None = None


class Taken(NamedTuple):
    """What a claim changed: amounts held by id, those out of a pool, and the instants of quotas before and after."""

    held: tuple[tuple[str, int], ...] = ()
    pooled: tuple[tuple[str, int], ...] = ()
    quotas: tuple[tuple[str, int, int], ...] = ()
    pool: str | None = None
    waits: tuple[tuple[str, tuple[int, int]], ...] = ()
    """What was waited for until then: {id: (since, amount)}, as pairs."""


NOTHING = Taken()


class NamedResources:
    """See the module."""

    def __init__(self) -> None:
        self.stale = True
        """True until it is read, and whenever somebody else may have changed something."""
        self.loaded = False
        self.closed = False
        """True while nothing may be claimed: what the store has said twice is first to be written without any claim."""
        self.waiting: dict[str, tuple[int, int]] = {}
        """{id: (since when this engine waits for it, how much its first in line asks for)}.

        Also what has no row or is a session's own: others need not know of that, but it has to be looked at again.
        """
        self.pools: Mapping[str, dict[str, int]] = {}
        self._blocked: dict[str, tuple[Any, int]] = {}
        """{id: (place in the queue, amount)} of the first in line that this look found waiting for it."""
        self._by_id: dict[str, NamedResource] = {}
        self._by_name: dict[str, NamedResource] = {}

    def load(self, rows: Iterable[NamedResource], pools: Mapping[str, dict[str, int]]) -> None:
        """Takes a new photograph."""
        self._by_id = {row.id: row for row in rows}
        self._by_name = {row.name: row for row in self._by_id.values()} | self._by_id
        self.pools = pools
        self.stale, self.loaded = False, True

    def find(self, name: str) -> NamedResource | None:
        """A resource by its name or id."""
        return self._by_name.get(name)

    def begin_look(self) -> None:
        """The queues are gone through from here on."""
        self._blocked.clear()

    def end_look(self, now_us: int) -> None:
        """All queues were gone through: what was found blocked waits, since now or since earlier."""
        self.waiting = {
            id: (self.waiting.get(id, (now_us, 0))[0], amount)
            for id, (_head, amount) in self._blocked.items()
        }

    def block(self, amounts: Amounts, *, now_us: int, pool: str | None = None, head: Any = 0) -> Block | None:
        """Why these amounts cannot all be had now; None where they can. `head` is the asker's place in the queue."""
        worst: Block | None = None
        held: dict[str, int] = {}
        for name, amount in amounts:
            found = self._by_name.get(name) if not self.closed else None
            if found is None:  # somebody took it away; it may come back
                self._blocked.setdefault(name, (head, amount))
                return Block(resource=name, short_by=amount)
            amount = held[found.id] = held.get(found.id, 0) + amount
            block = self._block(found, amount, now_us, pool)
            if block is None:
                continue
            if block.retry_us is None:
                key = found.id if block.pool is None else f"{found.id} of {block.pool}"
                first = self._blocked.get(key)
                if first is None or head < first[0]:
                    self._blocked[key] = (head, amount)
            if worst is None or worst.retry_us is not None:
                worst = block
        return worst

    def _block(self, found: NamedResource, amount: int, now_us: int, pool: str | None) -> Block | None:
        if found.rate is not None:
            if found.offline or not found.rate.allows(amount):
                return Block(resource=found.id, short_by=amount)
            passage = rate_quota.claim(found.rate, amount, tat_us=found.tat_us, now_us=now_us)
            if passage.tat_us is None:
                return Block(resource=found.id, short_by=amount, retry_us=passage.retry_us)
            return None
        mine = self.pools.get(pool) if pool is not None else None
        if mine is not None and found.id in mine:
            short_by = amount - mine[found.id]
            return Block(resource=found.id, short_by=short_by, pool=pool) if short_by > 0 else None
        since_us, _ = self.waiting.get(found.id, (now_us, 0))
        owed = sum(wait.amount for wait in found.waits if wait.since_us < since_us) if found.waits else 0
        free = (0 if found.offline else found.capacity - found.used) - owed
        if amount <= free:
            return None
        return Block(resource=found.id, short_by=amount - max(0, free))

    def comes_back(self, block: Block) -> bool:
        """Whether what is short will be free when attempts of this engine end."""
        found = self._by_id.get(block.resource)
        if found is None or found.offline or block.retry_us is not None or found.rate is not None:
            return False
        return block.pool is not None or block.short_by <= found.used - found.used_by_others

    def leaves(self, name: str, amount: int, kept: int) -> bool:
        """Whether `amount` can be taken so that `kept` is still free; a quota keeps nothing for anybody."""
        found = self._by_name.get(name)
        if found is None or found.rate is not None:
            return True
        return found.capacity - found.used - amount >= kept

    def take(self, amounts: Amounts, *, now_us: int, pool: str | None = None) -> Taken:
        """Counts a claim that passes."""
        held: dict[str, int] = {}
        pooled: dict[str, int] = {}
        quotas: dict[str, tuple[int, int]] = {}
        waits: dict[str, tuple[int, int]] = {}
        mine = self.pools.get(pool, {}) if pool is not None else {}
        for name, amount in amounts:
            found = self._by_name[name]
            if found.rate is not None:
                moved = rate_quota.claim(found.rate, amount, tat_us=found.tat_us, now_us=now_us).tat_us
                assert moved is not None, name
                quotas[found.id] = (quotas.get(found.id, (found.tat_us, 0))[0], moved)
                found.tat_us = moved
            elif found.id in mine:
                pooled[found.id] = pooled.get(found.id, 0) + amount
            else:
                held[found.id] = held.get(found.id, 0) + amount
                if found.id in self.waiting:
                    waits[found.id] = self.waiting.pop(found.id)
        taken = Taken(
            tuple(held.items()),
            tuple(pooled.items()),
            tuple((id, before, after) for id, (before, after) in quotas.items()),
            pool,
            tuple(waits.items()),
        )
        self._count(taken, 1)
        return taken

    def give(self, taken: Taken) -> None:
        """What was held is free again; what quotas gave is used up."""
        self._count(taken, -1)

    def regive(self, taken: Taken) -> None:
        """Undoes `give`."""
        self._count(taken, 1)

    def untake(self, taken: Taken) -> None:
        """Undoes `take`: the claim was never made."""
        self._count(taken, -1)
        self.waiting.update(taken.waits)
        for id, before_us, _after_us in taken.quotas:
            found = self._by_id.get(id)
            if found is not None:
                found.tat_us = before_us

    def _count(self, taken: Taken, sign: int) -> None:
        for id, amount in taken.held:
            found = self._by_id.get(id)
            if found is not None:
                found.used += sign * amount
        if taken.pooled:
            mine = self.pools.get(taken.pool or "", {})
            for id, amount in taken.pooled:
                if id in mine:
                    mine[id] -= sign * amount
