"""Which ready task goes next, and whether it may.

Layer: pure. Ready positions stand in *lanes*: one per run, cap and request, each a heap ordered by
priority and then by arrival. A lane's entry is a range of positions, so a fan-out of any size is one
entry. `next_lane` looks at the heads of the lanes that fit what is free; `take` admits.

A *chunk* is what one slot works through: usually one position, several where tasks are known to be so
short that a commit for each would cost more than the work (`quick`). It holds the request once: `claim`
takes all of it or, because `next_lane` only names lanes that fit, never a part.

What is given out: what the engine was allotted of the machine (`machine_share`), and what its state limits
(`named_resources`). Everything between `mark` and `rollback` can be undone, because a plan whose commit
failed must leave no trace here either.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, NamedTuple

from codomyrmex.logistics.orchestration.project.machine_share import MachineShare, MachineTaken
from codomyrmex.logistics.orchestration.project.named_resources import NOTHING, Amounts, NamedResources, Taken
from codomyrmex.logistics.orchestration.project.resource_request import CPU, GPU, Request

LaneKey = tuple[int, int, int, bool, bool]
"""Run number, step number or -1 where the step has no cap, identity of the request, whether chunks may be long,
whether it is for worker processes."""
Cap = tuple[tuple[int, int], int]
"""At most so many attempts at once of (run number, step number or -1 for all of the run)."""
Entry = tuple[int, int, int, int]
"""Minus priority rank, sequence, first position, end position."""


@dataclass(slots=True, eq=False)
class Lane:
    """Ready positions of one run that make the same request."""

    key: LaneKey
    run: Any
    request: Request
    cpu_milli: int
    """At most all there is; 0 where it comes out of a pool and so stands in `rest`."""
    quick: bool
    caps: tuple[Cap, ...] = ()
    process: bool = False
    """True where attempts run in worker processes."""
    rest: Amounts = ()
    """What it asks of the machine besides,"""
    plain: Amounts = ()
    """and the part of that which is no device."""
    pool: str | None = None
    """The session out of whose holding it is served as far as that goes."""
    extra: bool = False
    """True where CPU is not all that it asks for."""
    heap: list[Entry] = field(default_factory=list)
    chunks: int = 0
    """How many chunks of this lane are claimed."""


class Claim(NamedTuple):
    """What a chunk holds besides the CPU of its lane."""

    machine: MachineTaken | None = None
    named: Taken = NOTHING


NO_CLAIM = Claim()


@dataclass(slots=True, kw_only=True)
class Capacity:
    """What one engine may use at most: CPU in thousandths, and attempts at once."""

    cpu_milli: int
    workers: int


class Admission:
    """The queues of one engine and what is taken from its capacity."""

    def __init__(self, *, cpu_milli: int, max_workers: int, share: MachineShare | None = None) -> None:
        self.capacity = Capacity(cpu_milli=cpu_milli, workers=max_workers)
        self.workers = max_workers
        """How many more attempts may begin."""
        self.share = share or MachineShare.whole({CPU: cpu_milli})
        self.named = NamedResources()
        self.retry_us: int | None = None
        """When the first quota lets something through that it held up."""
        self.wants_named = False
        """True once something has asked for what the state limits."""
        self._wants_more = False
        """True once something has asked for more than CPU."""
        self.wants_pools = False
        """True once a run of a session was here."""
        self._now_us = 0
        self._lanes: dict[LaneKey, Lane] = {}
        self._filled: dict[LaneKey, Lane] = {}
        self._busy: dict[tuple[int, int], int] = {}
        self._held: set[int] = set()
        self._sequence = 0
        self._journal: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def lane(
        self,
        run: Any,
        *,
        request: Request,
        quick: bool,
        caps: tuple[Cap, ...] = (),
        step: int = -1,
        process: bool = False,
        pool: str | None = None,
    ) -> Lane:
        """The lane for such requests of `run`; `step` is -1 unless the step has a cap of its own.

        `caps` may be those of another run too: the limits of a root hold for the runs below it.
        """
        # By identity: equal requests of a workflow are one object, which its lane keeps alive.
        key = (run.number, step, id(request), quick, process)
        found = self._lanes.get(key)
        if found is None:
            cpu_milli = min(request.cpu_milli, self.capacity.cpu_milli)
            rest = tuple((id, amount) for id, amount in request.machine() if id != CPU)
            if pool is not None and cpu_milli:
                rest, cpu_milli = ((CPU, cpu_milli), *rest), 0
            extra = bool(rest or request.named)
            plain = tuple(each for each in rest if each[0] != GPU)
            found = Lane(key, run, request, cpu_milli, quick, caps, process, rest, plain, pool, extra)
            self._lanes[key] = found
            self._wants_more |= extra
            self.wants_named |= bool(request.named)
            self.wants_pools |= pool is not None
        return found

    def offer(self, lane: Lane, rank: int, first: int, end: int) -> None:
        """Puts positions `first` to `end - 1` in the queue; `rank` is that of their priority."""
        self._sequence += 1
        sequence = self._sequence
        heappush(lane.heap, (-rank, sequence, first, end))
        self._filled[lane.key] = lane
        self._journal.append((self._withdraw, (lane, sequence)))

    def next_lane(self, without: Collection[Lane] = ()) -> Lane | None:
        """The lane whose head goes next among those that fit, but for some, or None. O(lanes with work)."""
        if self.workers <= 0:
            return None
        cpu_milli = self.share.cpu_milli
        best: Lane | None = None
        for lane in self._filled.values():
            if best is not None and lane.heap[0] >= best.heap[0]:
                continue
            if lane.cpu_milli > cpu_milli or lane in without:
                continue
            if (lane.extra and not self._has_rest(lane)) or self._capped(lane):
                continue
            best = lane
        return best

    def note_waits(self) -> None:
        """After all was admitted that fits: what of the state's resources is waited for, and until when at least.

        Whatever else a lane lacks: one that waits for two things is to be found waiting for both.
        """
        self.retry_us = None
        self.named.begin_look()
        for lane in self._filled.values():
            if lane.request.named and not self._capped(lane):
                self._named_free(lane)
        self.named.end_look(self._now_us)

    @property
    def could_use_more(self) -> bool:
        """True when something waits here that nothing but the machine holds up."""
        return any(not self._capped(lane) and self._named_free(lane) for lane in self._filled.values())

    def lacking(
        self, barred: Collection[str] = (), without: Collection[Lane] = ()
    ) -> tuple[Lane, dict[str, int], dict[str, int]] | None:
        """Who is next in line, what has to be allotted before it fits, and what all that waits could use.

        Left out is what asks for anything of `barred`, and some lanes. None where nothing waits that a larger share
        of the machine would help.
        """
        if self.workers <= 0 or (self.share.has_all_cpus and not self._wants_more):
            return None
        best: Lane | None = None
        head: dict[str, int] = {}
        want: dict[str, int] = {}
        for lane in self._filled.values():
            asks = self._asks(lane)
            if lane in without or self._capped(lane) or any(id in barred for id, _ in asks):
                continue
            short = self._shortfall(lane)
            if not short:
                continue
            if best is None or lane.heap[0] < best.heap[0]:
                best, head = lane, short
            count = self.waiting_in(lane, self.workers)
            for id, amount in asks:
                want[id] = want.get(id, 0) + amount * count
        return None if best is None else (best, head, self.share.growth(head, want))

    def waiting_in(self, lane: Lane, at_most: int) -> int:
        """How many positions wait in a lane, counted up to `at_most`."""
        count = 0
        for _rank, _sequence, first, end in lane.heap:
            count += end - first
            if count >= at_most:
                return at_most
        return count

    @property
    def idle(self) -> bool:
        """True when nothing waits here."""
        return not self._filled

    def take(self, lane: Lane, at_most: int) -> tuple[int, int]:
        """Takes up to `at_most` positions of the head entry; the caller claims for the chunk with `claim`."""
        rank, sequence, first, end = lane.heap[0]
        if first + at_most < end:
            end = first + at_most
            heapreplace(lane.heap, (rank, sequence, end, lane.heap[0][3]))
        else:
            heappop(lane.heap)
            if not lane.heap:
                self._filled.pop(lane.key, None)
        self._journal.append((self._put_back, (lane, (rank, sequence, first, end))))
        return first, end

    def claim(self, lane: Lane) -> Claim:
        """Takes the request of one chunk of this lane out of what is free; `next_lane` has said that it fits."""
        self._count(lane, 1)
        self._journal.append((self._count, (lane, -1)))
        if not lane.extra:
            return NO_CLAIM
        machine, named = None, NOTHING
        if lane.rest:
            machine = self.share.take(lane.rest, lane.pool)
            self._journal.append((self.share.count, (machine, -1)))
        if lane.request.named:
            named = self.named.take(lane.request.named, now_us=self._now_us, pool=lane.pool)
            self._journal.append((self.named.untake, (named,)))
        return Claim(machine, named)

    def release(self, lane: Lane, claim: Claim = NO_CLAIM) -> None:
        """Gives back the request of one chunk."""
        self._count(lane, -1)
        self._journal.append((self._count, (lane, 1)))
        if claim.machine is not None:
            self.share.count(claim.machine, -1)
            self._journal.append((self.share.count, (claim.machine, 1)))
        if claim.named is not NOTHING:
            self.named.give(claim.named)
            self._journal.append((self.named.regive, (claim.named,)))

    def hold(self, run_number: int, *, held: bool) -> None:
        """Takes nothing of a run any more, or goes on with it; what stands in its lanes stays there."""
        if held:
            self._held.add(run_number)
        else:
            self._held.discard(run_number)

    def forget(self, run_number: int) -> None:
        """Drops the lanes of a run that has ended."""
        self._held.discard(run_number)
        for key in [key for key in self._lanes if key[0] == run_number]:
            del self._lanes[key]
            self._filled.pop(key, None)

    def mark(self, now_us: int = 0) -> None:
        """From here on `rollback` undoes; what is decided is decided at `now_us`."""
        self._now_us, self.retry_us = now_us, None
        self._journal.clear()

    def rollback(self) -> None:
        """Undoes everything since `mark`."""
        for undo, about in reversed(self._journal):
            undo(*about)
        self._journal.clear()

    def _capped(self, lane: Lane) -> bool:
        if lane.key[0] in self._held:
            return True
        return any(self._busy.get(whose, 0) >= cap for whose, cap in lane.caps)

    def _has_rest(self, lane: Lane) -> bool:
        """Whether what a lane asks for besides CPU is free; notes until when a quota holds it up."""
        if lane.pool is None:
            free = self.share.plain_free
            for id, amount in lane.plain:
                if amount > free.get(id, 0):
                    return False
            if lane.request.gpu and not self.share.has(GPU, lane.request.gpu, None):
                return False
        elif not all(self.share.has(id, amount, lane.pool) for id, amount in lane.rest):
            return False
        return not lane.request.named or self._named_free(lane)

    def _named_free(self, lane: Lane) -> bool:
        named = lane.request.named
        if not named:
            return True
        block = self.named.block(named, now_us=self._now_us, pool=lane.pool, head=lane.heap[0])
        if block is None:
            return True
        if block.retry_us is not None and (self.retry_us is None or block.retry_us < self.retry_us):
            self.retry_us = block.retry_us
        return False

    def _shortfall(self, lane: Lane) -> dict[str, int]:
        """What the share of the machine lacks for one chunk; empty where it does not, or where that helps nothing."""
        short = {}
        for id, amount in self._asks(lane):
            missing = self.share.missing(id, amount, lane.pool)
            if missing is None:
                return {}  # it is all this engine's, or a pool's: its own attempts have to end
            if missing:
                short[id] = missing
        return short if short and self._named_free(lane) else {}

    def _asks(self, lane: Lane) -> Amounts:
        return ((CPU, lane.cpu_milli), *lane.rest) if lane.cpu_milli else lane.rest

    def _count(self, lane: Lane, sign: int) -> None:
        lane.chunks += sign
        self.workers -= sign
        self.share.cpu_milli -= sign * lane.cpu_milli
        for whose, _cap in lane.caps:
            busy = self._busy.get(whose, 0) + sign
            if busy:
                self._busy[whose] = busy
            else:
                self._busy.pop(whose, None)

    def _put_back(self, lane: Lane, entry: Entry) -> None:
        heappush(lane.heap, entry)
        self._filled[lane.key] = lane

    def _withdraw(self, lane: Lane, sequence: int) -> None:
        lane.heap[:] = [entry for entry in lane.heap if entry[1] != sequence]
        heapify(lane.heap)
        if not lane.heap:
            self._filled.pop(lane.key, None)
