"""Which ready task goes next, and whether it may.

Layer: pure. Ready positions stand in lanes, and lanes in shapes (`ready_queues`), each position at a place that never
changes (`order_policy`). `next_lane` finds the first whose request fits what is free; what does not fit is passed
by, until it has waited so long that room is kept for it (`reservation`). Where several sessions have work, whose
turn it is comes first (`fair_share`). `take` and `claim` admit. The cost of one is O(shapes with work).

A *chunk* is what one slot works through: usually one position, several where tasks are known to be so
short that a commit for each would cost more than the work (`quick`). It holds the request once: `claim`
takes all of it or, because `next_lane` only names lanes that fit, never a part.

What is given out: what the engine was allotted of the machine (`machine_share`), and what its state limits
(`named_resources`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from codomyrmex.logistics.orchestration.project.fair_share import Party
from codomyrmex.logistics.orchestration.project.machine_share import MachineShare, MachineTaken
from codomyrmex.logistics.orchestration.project.named_resources import NOTHING, Taken
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.overdue import Overdue
from codomyrmex.logistics.orchestration.project.ready_queues import Capacity, ReadyQueues
from codomyrmex.logistics.orchestration.project.reservation import may_pass, takes_what_lacks
from codomyrmex.logistics.orchestration.project.resource_request import GPU
from codomyrmex.logistics.orchestration.project.shapes import Cap, Entry, Lane, Shape

__all__ = ["NO_CLAIM", "Admission", "Cap", "Capacity", "Claim", "Lane", "Shape"]


class Claim(NamedTuple):
    """What a chunk holds besides the CPU of its lane, and since when, where that is counted for its session."""

    machine: MachineTaken | None = None
    named: Taken = NOTHING
    since_us: int | None = None


NO_CLAIM = Claim()


class Admission(ReadyQueues):
    """The queues of one engine and what is taken from its capacity."""

    def __init__(
        self,
        *,
        cpu_milli: int,
        max_workers: int,
        share: MachineShare | None = None,
        policy: OrderPolicy | None = None,
    ) -> None:
        super().__init__(cpu_milli=cpu_milli, max_workers=max_workers, share=share, policy=policy)
        self.retry_us: int | None = None
        """When the first quota lets something through that it held up."""
        self.refused = False
        """True while no more of the machine is to be had than there is."""
        self.may_ask = False
        """True while more of the machine may be asked for: then nobody passes one that lacks only that."""
        self.stopped_short = False
        """True once something was held back for that reason."""
        self.hopeless: Collection[Shape] = ()
        """What others keep too much of for it ever to fit: no room is kept for these."""
        self._kept_for: Overdue | None = None
        self._overdue: Overdue | None = None
        """One that has waited too long and would fit, as it stood before anything was admitted."""

    def mark(self, now_us: int = 0) -> None:
        """From here on `rollback` undoes; what is decided is decided at `now_us`."""
        super().mark(now_us)
        self.retry_us = None

    def next_lane(self) -> Lane | None:
        """The lane whose head goes next among those that fit, or None."""
        if self.workers <= 0:
            return None
        kept_for = self._kept_for
        if kept_for is None and self._overdue is None and len(self._parties) == 1:
            return self._first_of(next(iter(self._open)), None)  # almost always
        if kept_for is not None:
            lane = self._head(kept_for.shape)
            if lane is None:
                self._keep_for(None)
                kept_for = None
            elif self._fits(kept_for.shape, lane):
                return lane
        for party in self._in_turn():
            found = self._first_of(party, kept_for)
            if found is not None:
                return self._or_overdue(found)
        return None

    def _or_overdue(self, found: Lane) -> Lane | None:
        """Who goes instead of a lane, because it has waited too long and would fit.

        None where what it asks for has to be allotted first.
        """
        overdue = self._overdue
        if overdue is None or overdue.lane is found or overdue.shape.party is not found.shape.party:
            return found
        if not overdue.waits or not overdue.goes_before(found, self._now_us):
            return found
        if self._barred_by(overdue.lane) is not None:  # since it was found others of its run have begun
            return found
        if self._fits(overdue.shape, overdue.lane):
            return overdue.lane
        if self.may_ask and self._shortfall(overdue.shape, overdue.lane):
            self.stopped_short = True
            return None
        return found

    def _in_turn(self) -> Iterable[Party]:
        if len(self._parties) < 2:
            return self._parties.values()
        waiting = [party for party, shapes in self._open.items() if shapes]
        return sorted(waiting, key=lambda party: (*party.turn(self._now_us), party.number))

    def _first_of(self, party: Party, kept_for: Overdue | None) -> Lane | None:
        cpu_milli, may_ask = self.share.cpu_milli, self.may_ask
        barring = self._held or self._aside
        best: Lane | None = None
        first: Entry | None = None
        empty: list[Shape] = []
        for shape in self._open[party]:
            if shape.cpu_milli > cpu_milli and not may_ask:
                continue
            if shape.heads:
                # Also one that is out of date is not behind the true one.
                head, _number, lane = shape.heads[0]
                if first is not None and head >= first:
                    continue
                heap = lane.heap
                known = heap and heap[0] is head and not (lane.caps or barring or lane.turn is not None)
            else:
                known = False
            if not known:
                found = self._head(shape)
                if found is None:
                    empty.append(shape)
                    continue
                lane, head = found, found.heap[0]
                if first is not None and head >= first:
                    continue
            if shape.cpu_milli > cpu_milli or (shape.extra and not self._has_rest(shape, lane)):
                if may_ask and self._shortfall(shape, lane):
                    best, first = None, head  # whoever is behind it has to wait until it was asked for
                continue
            if kept_for is not None and not self._passes(shape, lane, kept_for):
                continue
            best, first = lane, head
        self.stopped_short |= first is not None and best is None
        for shape in empty:
            del self._open[party][shape]
        return best

    @property
    def keeps_room(self) -> bool:
        """True while room is kept for a task that has waited too long."""
        return self._kept_for is not None

    @property
    def kept_for(self) -> tuple[Any, int, int] | None:
        """Who room is kept for: run, position, and since when it has been ready; None where for nobody."""
        lane = self._kept_for.shape.top() if self._kept_for is not None else None
        if lane is None:
            return None
        head = lane.heap[0]
        return lane.run, head[4], head[3]

    def keep_room(self) -> None:
        """Keeps room for the task that has waited longest, once that is too long; before anything is admitted.

        Only for one of the party whose turn it is, only where it does not fit, and only where what it lacks will
        come from attempts of this engine. One that fits goes before those that are only more urgent.
        """
        self._overdue = None
        kept_for = self._kept_for
        if kept_for is not None:
            lane = self._head(kept_for.shape)
            if lane is not None and not self._in_vain(kept_for.shape, lane):
                return
            self._keep_for(None)
        if self._now_us < self._look_us:
            return
        self._look_us = self._now_us + self.policy.reserve_after_us
        parties = [*self._in_turn()]
        found = [self._look_at(party) for party in parties]
        for blocked, may_go in found:
            for overdue in blocked:
                if self._contested(overdue):
                    self._keep_for(overdue)
                    return
            if may_go:
                return

    def _look_at(self, party: Party) -> tuple[list[Overdue], bool]:
        """Who of a party waits too long for room, the oldest first; and whether anything of it can go as it is."""
        now_us, reserve_us = self._now_us, party.policy.reserve_after_us
        blocked: list[Overdue] = []
        may_go = False
        for shape in self._open[party]:
            lane = self._oldest(shape)
            if lane is None:
                continue
            head = lane.heap[0]
            due_us = head[3] + reserve_us
            self._look_us = max(now_us, min(due_us, self._look_us))
            if self._in_vain(shape, lane):
                continue
            fits = self._could_go(shape, lane)
            may_go = may_go or fits
            if due_us > now_us:
                continue
            if not fits:
                blocked.append(Overdue.head_of(lane))
            elif self._overdue is None or (head[3], head) < (self._overdue.head[3], self._overdue.head):
                self._overdue = Overdue.head_of(lane)
        return sorted(blocked, key=lambda each: (each.head[3], each.head)), may_go

    def _contested(self, overdue: Overdue) -> bool:
        """Whether something that could begin now would take of what one lacks; else nobody passes it."""
        if self.workers <= 0:
            return False
        for other in self._all_open():
            lane = self._head(other)
            if lane is None or overdue.spares(lane, self._now_us) or not self._could_go(other, lane):
                continue
            if takes_what_lacks(other, overdue.shape, self.share, self.named, more=not self.refused):
                return True
        return False

    def _passes(self, shape: Shape, lane: Lane, kept_for: Overdue) -> bool:
        """Whether one attempt of a lane may begin although room is kept for another."""
        if kept_for.spares(lane, self._now_us):
            return True
        return may_pass(shape, kept_for.shape, self.share, self.named, self.workers, more=not self.refused)

    def _in_vain(self, shape: Shape, lane: Lane) -> bool:
        """True where no room that is kept helps: a quota, or others, hold it up, not attempts of this engine."""
        if shape in self.hopeless:
            return True
        named = shape.named
        if not named:
            return False
        block = self.named.block(named, now_us=self._now_us, pool=shape.pool, head=lane.heap[0])
        return block is not None and not self.named.comes_back(block)

    def note_waits(self) -> None:
        """After all was admitted that fits: what of the state's resources is waited for, and until when at least.

        Whatever else a lane lacks: one that waits for two things is to be found waiting for both.
        """
        self.retry_us = None
        self.named.begin_look()
        for shape in self._all_open():
            if shape.named:
                lane = self._head(shape)
                if lane is not None:
                    self._named_free(shape, lane)
        self.named.end_look(self._now_us)

    @property
    def could_use_more(self) -> bool:
        """True when something waits here that nothing but the machine holds up."""
        for shape in self._all_open():
            lane = self._head(shape)
            if lane is not None and self._named_free(shape, lane):
                return True
        return False

    def lacking(
        self, barred: Collection[str] = (), without: Collection[Shape] = ()
    ) -> tuple[Shape, dict[str, int], dict[str, int]] | None:
        """Who is next in line, what has to be allotted before it fits, and what all that waits could use.

        Left out is what asks for anything of `barred`, and some shapes. None where nothing waits that a larger share
        of the machine would help.
        """
        if self.workers <= 0 or (self.share.has_all_cpus and not self._wants_more):
            return None
        best: Shape | None = None
        first: tuple[bool, Entry] | None = None
        head: dict[str, int] = {}
        want: dict[str, int] = {}
        first_of_all = [each.shape for each in (self._kept_for, self._overdue) if each is not None]
        for shape in self._all_open():
            lane = self._head(shape)
            asks = shape.asks
            if lane is None or shape in without or any(id in barred for id, _ in asks):
                continue
            short = self._shortfall(shape, lane)
            if not short:
                continue
            place = shape not in first_of_all, lane.heap[0]
            if first is None or place < first:
                best, first, head = shape, place, short
            count = min(self.workers, sum(self.waiting_in(each, self.workers) for each in shape.lanes()))
            for id, amount in asks:
                want[id] = want.get(id, 0) + amount * count
        return None if best is None else (best, head, self.share.growth(head, want))

    def claim(self, lane: Lane) -> Claim:
        """Takes the request of one chunk of this lane out of what is free; `next_lane` has said that it fits."""
        self._count(lane, 1)
        self._journal.append((self._count, (lane, -1)))
        shape = lane.shape
        if self._kept_for is not None and shape is self._kept_for.shape:
            self._keep_for(None)
        since_us = self._hold_share(shape) if len(self._parties) > 1 else None
        if not lane.extra:
            return NO_CLAIM if since_us is None else Claim(since_us=since_us)
        machine, named = None, NOTHING
        if shape.rest:
            machine = self.share.take(shape.rest, shape.pool)
            self._journal.append((self.share.count, (machine, -1)))
        if shape.named:
            named = self.named.take(shape.named, now_us=self._now_us, pool=shape.pool)
            self._journal.append((self.named.untake, (named,)))
        return Claim(machine, named, since_us)

    def release(self, lane: Lane, claim: Claim = NO_CLAIM) -> None:
        """Gives back the request of one chunk."""
        self._count(lane, -1)
        self._journal.append((self._count, (lane, 1)))
        if claim.since_us is not None:
            party = lane.shape.party
            self._journal.append((self._restore, (party, party.account)))
            lasted_s = max(0, self._now_us - claim.since_us) / 1_000_000
            party.give(self._part(lane.shape), self._now_us, lasted_s)
        if claim.machine is not None:
            self.share.count(claim.machine, -1)
            self._journal.append((self.share.count, (claim.machine, 1)))
        if claim.named is not NOTHING:
            self.named.give(claim.named)
            self._journal.append((self.named.regive, (claim.named,)))

    def _fits(self, shape: Shape, lane: Lane) -> bool:
        return shape.cpu_milli <= self.share.cpu_milli and (not shape.extra or self._has_rest(shape, lane))

    def _could_go(self, shape: Shape, lane: Lane) -> bool:
        """Whether it fits; what of the machine has only to be asked for is as good as there."""
        return self._fits(shape, lane) or (self.may_ask and bool(self._shortfall(shape, lane)))

    def _has_rest(self, shape: Shape, lane: Lane) -> bool:
        """Whether what a shape asks for besides CPU is free; notes until when a quota holds it up."""
        if shape.pool is None:
            free = self.share.plain_free
            for id, amount in shape.plain:
                if amount > free.get(id, 0):
                    return False
            if shape.gpu and not self.share.has(GPU, shape.gpu, None):
                return False
        elif not all(self.share.has(id, amount, shape.pool) for id, amount in shape.rest):
            return False
        return not shape.named or self._named_free(shape, lane)

    def _named_free(self, shape: Shape, lane: Lane) -> bool:
        named = shape.named
        if not named:
            return True
        block = self.named.block(named, now_us=self._now_us, pool=shape.pool, head=lane.heap[0])
        if block is None:
            return True
        if block.retry_us is not None and (self.retry_us is None or block.retry_us < self.retry_us):
            self.retry_us = block.retry_us
        return False

    def _shortfall(self, shape: Shape, lane: Lane) -> dict[str, int]:
        """What the share of the machine lacks for one chunk; empty where it does not, or where that helps nothing."""
        short = {}
        for id, amount in shape.asks:
            missing = self.share.missing(id, amount, shape.pool)
            if missing is None:
                return {}  # it is all this engine's, or a pool's: its own attempts have to end
            if missing:
                short[id] = missing
        return short if short and self._named_free(shape, lane) else {}

    def _part(self, shape: Shape) -> float:
        """What one attempt counts for its party: at least a slot."""
        return max(shape.share, 1.0 / self.capacity.workers)

    def _hold_share(self, shape: Shape) -> int:
        party = shape.party
        self._journal.append((self._restore, (party, party.account)))
        self._reach(party.virtual_s(self._now_us))
        party.hold(self._part(shape), self._now_us)
        return self._now_us

    def _keep_for(self, overdue: Overdue | None) -> None:
        """Keeps room for somebody else now; others may have waited too long behind the last one."""
        self._journal.append((self._kept, (self._kept_for,)))
        self._kept_for = overdue
        self._look_us = 0

    def _kept(self, overdue: Overdue | None) -> None:
        self._kept_for = overdue
