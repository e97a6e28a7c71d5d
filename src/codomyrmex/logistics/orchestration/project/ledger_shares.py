"""Who may take how much of a host that several engines share, and who has to give back.

Layer: pure. Everybody who holds something, or waits, has the same *fair share* of each resource: what there is,
divided by their number. Nothing is ever taken from who uses it; the rule only says who gets what becomes free.

    legitimate  a wait whose holder uses less than its share of everything it is short of
    first come  legitimate waits are served in their order; for each, what it is short of is kept until it has all
                of it. What it is not short of yet stays open to others, or a wait for one GPU would keep CPUs idle;
                only for a wait that lasted long (`patient` False) all of it is kept
    give back   what is free of a holding over the share goes to the legitimate waits. Where that cannot be enough
                (a task as big as the machine, devices too scattered), everybody gives. Who gives and waits itself
                goes to the end of the line, so big and small tasks take turns
    no hoarding what a waiting holder has idle does not count as used. It keeps that only if it is the first in line,
                so two that each hold half of what both need do not wait for each other

A holder alone is never refused or asked for anything. Dimensions are judged one by one, all GPUs as one (`gpu`);
which devices, `gpu_choice` says. Compare dominant resource fairness (Ghodsi et al., NSDI 2011); here nothing can be
taken away, so it is turns that are fair, not instants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from codomyrmex.logistics.orchestration.project.gpu_choice import choose
from codomyrmex.logistics.orchestration.project.resource_request import GPU, UNIT

Amounts = Mapping[str, int]
"""Whole numbers by resource id; in what is asked for, `gpu` stands for any device."""
NOTHING: Amounts = MappingProxyType({})


class Wait(NamedTuple):
    """What a holder waits for: `head` at least, `want` at most; `idle` is what it has and cannot use meanwhile."""

    holder: int
    sequence: int
    head: Amounts
    want: Amounts = NOTHING
    idle: Amounts = NOTHING
    patient: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Who has what and who waits, as one holder sees it: `capacity` is what that one believes there is.

    `held` is by holder; `kept` is held beside the engines, by people; `waits` are the living ones in their order.
    """

    capacity: Amounts
    held: Mapping[int, Amounts]
    kept: Amounts = field(default_factory=dict)
    waits: Sequence[Wait] = ()
    offline: frozenset[str] = frozenset()

    # -- what there is

    def usable(self) -> dict[str, int]:
        """What there is for engines, by device."""
        return {
            id: max(0, amount - self.kept.get(id, 0))
            for id, amount in self.capacity.items()
            if id not in self.offline
        }

    def free(self) -> dict[str, int]:
        """What of it nobody holds."""
        found = self.usable()
        for amounts in self.held.values():
            for id, amount in amounts.items():
                if id in found:
                    found[id] = max(0, found[id] - amount)
        return found

    def is_possible(self, wait: Wait) -> bool:
        """Whether it could be met if nobody else held anything; while it could not, nothing is kept for it."""
        need = {id: amount + (wait.idle.get(id, 0) if id != GPU else 0) for id, amount in wait.head.items()}
        return fitted(self.usable(), need) is not None

    # -- the two questions

    def grant(
        self,
        me: int,
        head: Amounts,
        want: Amounts,
        *,
        idle: Amounts | None = None,
        sequence: int | None = None,
    ) -> dict[str, int]:
        """What `me` may take now: all of `head`, and of `want` what nobody else has a right to; or nothing.

        `sequence` is its place in line if it waits already. Devices come by their ids.
        """
        shares = _Shares(self, me)
        busy = shares.busy(me, idle or {})
        idle = idle or {}
        first, rest = self.free(), self.free()
        for wait, missing in self._legitimate(shares, me):
            older = sequence is not None and sequence < wait.sequence
            for id in missing:
                tasks = shares.tasks(wait, id)
                reserve(rest, wait, [id], tasks=tasks)
                if not shares.under(id, busy):
                    # Nobody with its share goes before a legitimate wait, however long it has waited itself.
                    reserve(first, wait, [id], tasks=tasks)
                elif not older:
                    reserve(first, wait, [id])
        granted = fitted(first, head, idle)
        if granted is None:
            return {}
        for id, amount in granted.items():
            rest[id] = max(0, rest.get(id, 0) - amount)
        for id, amount in _more(rest, head, want).items():
            granted[id] = granted.get(id, 0) + amount
        return granted

    def surplus(self, me: int, free: Amounts) -> dict[str, int]:
        """What of `free`, which no task of `me` uses, it has to give back now."""
        given: dict[str, int] = {}
        shares = _Shares(self, me)
        mine = next((wait for wait in self.waits if wait.holder == me), None)
        available = self.free()
        collects = mine is not None and self.is_possible(mine) and shares.legitimate(mine, available)
        for wait, missing in self._legitimate(shares, me):
            if mine is not None and collects and mine.sequence < wait.sequence:
                break  # I am first in line: what I have idle I may collect
            for id in scarce(available, wait):
                left = {each: free[each] - given.get(each, 0) for each in _members(free, id)}
                for each, amount in shares.owed(me, wait, id, available, left, given).items():
                    given[each] = given.get(each, 0) + amount
                    available[each] = available.get(each, 0) + amount
            reserve(available, wait, missing)
        return {id: amount for id, amount in given.items() if amount > 0}

    def _legitimate(self, shares: _Shares, me: int) -> Iterator[tuple[Wait, list[str]]]:
        """The legitimate waits of the others in their order, and what has to be kept for each."""
        left = self.free()
        for wait in self.waits:
            if wait.holder == me or not self.is_possible(wait) or not shares.legitimate(wait, left):
                continue
            missing = scarce(left, wait)
            kept = missing if missing and wait.patient else list(wait.head)
            reserve(left, wait, kept)
            yield wait, kept


class _Shares:
    """Fair shares of one `Host`: compared by products, because a share need not be a whole number."""

    def __init__(self, host: Host, me: int) -> None:
        active = {holder for holder, amounts in host.held.items() if any(amounts.values())}
        active.update(wait.holder for wait in host.waits)
        active.add(me)
        self.count = len(active)
        self.there_is = _by_kind(host.usable())
        self._held = {holder: _by_kind(amounts) for holder, amounts in host.held.items()}

    def busy(self, holder: int, idle: Amounts) -> dict[str, int]:
        """What a holder uses, by kind: all it has but what it says is idle."""
        found = dict(self._held.get(holder, {}))
        for id, amount in _by_kind(idle).items():
            found[id] = max(0, found.get(id, 0) - amount)
        return found

    def under(self, id: str, used: Amounts) -> bool:
        """Whether `used` is less than a share."""
        return used.get(_kind(id), 0) * self.count < self.there_is.get(_kind(id), 0)

    def legitimate(self, wait: Wait, available: Amounts) -> bool:
        """Whether its holder uses less than its share of all that it is short of."""
        used = self.busy(wait.holder, wait.idle)
        return all(self.under(id, used) for id in scarce(available, wait) or wait.head)

    def owed(
        self, me: int, wait: Wait, id: str, available: Amounts, left: Amounts, given: Amounts
    ) -> dict[str, int]:
        """What `me` gives of `left` (its free part of this kind) for what a wait is short of."""
        held = self._held.get(me, {}).get(id, 0) - _by_kind(given).get(id, 0)
        over = held * self.count - self.there_is.get(id, 0)
        if over <= 0 and not self._needs_all(wait, id, available):
            return {}
        if id == GPU:
            return _owed_devices(wait, available, left)
        short = wait.head[id] - available.get(id, 0)
        # Several tasks' worth where the share of the one has room for it and I stay at mine.
        more = min(wait.head[id] * self.tasks(wait, id) - available.get(id, 0), over // self.count)
        amount = min(left.get(id, 0), max(short, more))
        return {id: amount} if amount > 0 else {}

    def _needs_all(self, wait: Wait, id: str, available: Amounts) -> bool:
        """Whether what lies free and what is held over the share cannot meet it: then all others give."""
        there = sum(available[each] for each in _members(available, id))
        head = wait.head[id]
        if id == GPU:
            there += _by_kind(wait.idle).get(GPU, 0)
            if there >= head:
                return True  # the devices are too scattered
        for holder, amounts in self._held.items():
            over = amounts.get(id, 0) * self.count - self.there_is.get(id, 0)
            if holder != wait.holder and over > 0:
                # In portions of what is waited for: the last one may leave it with less than its share.
                there += -(-over // (self.count * head)) * head
        return there < head

    def tasks(self, wait: Wait, id: str) -> int:
        """For how many of its tasks a waiting holder's share has room; at least one, at most what it wants."""
        if id == GPU:
            return 1
        used = self.busy(wait.holder, wait.idle).get(id, 0)
        room = self.there_is.get(id, 0) // self.count - used
        return max(1, min(room, wait.want.get(id, 0)) // max(1, wait.head[id]))


def fitted(free: Amounts, claim: Amounts, idle: Amounts | None = None) -> dict[str, int] | None:
    """The claim with devices by their ids, or None where not all of it fits.

    Of GPUs a claim is for all that a task needs: what its holder has `idle` of a chosen device is not taken again.
    """
    found: dict[str, int] = {}
    for id, amount in claim.items():
        if id == GPU and amount > 0:
            mine = _devices(idle or {})
            chosen = choose(_sum(_devices(free), mine), amount)
            if chosen is None:
                return None
            parts = {each: amount // len(chosen) - mine.get(each, 0) for each in chosen}
            found.update((each, part) for each, part in parts.items() if part > 0)
        elif amount > free.get(id, 0):
            return None
        elif amount > 0:
            found[id] = amount
    return found


def scarce(free: Amounts, wait: Wait) -> list[str]:
    """What of a wait does not fit by itself."""
    return [id for id, amount in wait.head.items() if fitted(free, {id: amount}, wait.idle) is None]


def reserve(free: dict[str, int], wait: Wait, ids: Iterable[str], *, tasks: int = 1) -> None:
    """Takes these parts of a wait out of `free`; of what it does not suffice for nothing is left."""
    for id in ids:
        found = fitted(free, {id: wait.head[id] * tasks}, wait.idle)
        if found is None:
            found = {each: free[each] for each in _members(free, id)}
        for each, amount in found.items():
            free[each] -= amount


def _more(free: Amounts, head: Amounts, want: Amounts) -> dict[str, int]:
    """What beyond the head is both wanted and there."""
    found: dict[str, int] = {}
    for id, amount in want.items():
        more = amount - head.get(id, 0)
        if id == GPU:
            devices = _devices(free)
            whole = min(more // UNIT, sum(left >= UNIT for left in devices.values())) * UNIT
            more = whole or more % UNIT
            found |= fitted(devices, {GPU: more}) or {} if more > 0 else {}
        elif min(more, free.get(id, 0)) > 0:
            found[id] = min(more, free[id])
    return found


def _owed_devices(wait: Wait, available: Amounts, left: Amounts) -> dict[str, int]:
    """The parts of my free devices that complete what is waited for; all of them where even that is too little."""
    parts = fitted(_sum(_devices(available), left), {GPU: wait.head[GPU]}, wait.idle)
    if parts is None:
        return {id: mine for id, mine in left.items() if mine > 0}
    wanted = {id: min(left.get(id, 0), part - available.get(id, 0)) for id, part in parts.items()}
    return {id: part for id, part in wanted.items() if part > 0}


def _sum(these: Amounts, those: Amounts) -> dict[str, int]:
    found = dict(these)
    for id, amount in those.items():
        found[id] = found.get(id, 0) + amount
    return found


def is_device(id: str) -> bool:
    """Whether this is one GPU."""
    return id.startswith(f"{GPU}-")


def _kind(id: str) -> str:
    return GPU if is_device(id) else id


def _by_kind(amounts: Amounts) -> dict[str, int]:
    found: dict[str, int] = {}
    for id, amount in amounts.items():
        found[_kind(id)] = found.get(_kind(id), 0) + amount
    return found


def _members(amounts: Amounts, id: str) -> list[str]:
    return [each for each in amounts if _kind(each) == id or each == id]


def _devices(amounts: Amounts) -> dict[str, int]:
    return {id: amount for id, amount in amounts.items() if is_device(id)}
