"""Which ready task goes next, and whether it may.

Layer: pure. Ready positions stand in *lanes*: one per run, cap and request, each a heap ordered by
priority and then by arrival. A lane's entry is a range of positions, so a fan-out of any size is one
entry. `next_lane` looks at the heads of the lanes that fit what is free; `take` admits.

A *chunk* is what one slot works through: usually one position, several where tasks are known to be so
short that a commit for each would cost more than the work (`quick`). It holds the request once.

Everything between `mark` and `rollback` can be undone, because a plan whose commit failed must leave no
trace here either.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any

LaneKey = tuple[int, int, int, bool, bool]
"""Run number, step number or -1 where the step has no cap, milli-CPU, whether chunks may be long, whether it
is for worker processes."""
Cap = tuple[tuple[int, int], int]
"""At most so many attempts at once of (run number, step number or -1 for all of the run)."""
Entry = tuple[int, int, int, int]
"""Minus priority rank, sequence, first position, end position."""


@dataclass(slots=True, eq=False)
class Lane:
    """Ready positions of one run that make the same request."""

    key: LaneKey
    run: Any
    cpu_milli: int
    quick: bool
    caps: tuple[Cap, ...] = ()
    process: bool = False
    """True where attempts run in worker processes."""
    heap: list[Entry] = field(default_factory=list)
    chunks: int = 0
    """How many chunks of this lane are claimed."""


@dataclass(slots=True, kw_only=True)
class Free:
    """What may be given out: CPU in thousandths, and attempts at once."""

    cpu_milli: int
    workers: int


class Admission:
    """The queues of one engine and what is taken from its capacity."""

    def __init__(self, *, cpu_milli: int, max_workers: int) -> None:
        self.capacity = Free(cpu_milli=cpu_milli, workers=max_workers)
        self.free = Free(cpu_milli=cpu_milli, workers=max_workers)
        self._lanes: dict[LaneKey, Lane] = {}
        self._filled: dict[LaneKey, Lane] = {}
        self._busy: dict[tuple[int, int], int] = {}
        self._held: set[int] = set()
        self._sequence = 0
        self._journal: list[tuple[Callable[[Lane, Any], None], Lane, Any]] = []

    def lane(
        self,
        run: Any,
        *,
        cpu_milli: int,
        quick: bool,
        caps: tuple[Cap, ...] = (),
        step: int = -1,
        process: bool = False,
    ) -> Lane:
        """The lane for such requests of `run`; `step` is -1 unless the step has a cap of its own.

        `caps` may be those of another run too: the limits of a root hold for the runs below it.
        """
        cpu_milli = min(cpu_milli, self.capacity.cpu_milli)
        key = (run.number, step, cpu_milli, quick, process)
        found = self._lanes.get(key)
        if found is None:
            found = self._lanes[key] = Lane(key, run, cpu_milli, quick, caps, process)
        return found

    def offer(self, lane: Lane, rank: int, first: int, end: int) -> None:
        """Puts positions `first` to `end - 1` in the queue; `rank` is that of their priority."""
        self._sequence += 1
        sequence = self._sequence
        heappush(lane.heap, (-rank, sequence, first, end))
        self._filled[lane.key] = lane
        self._journal.append((self._withdraw, lane, sequence))

    def next_lane(self, without: Collection[Lane] = ()) -> Lane | None:
        """The lane whose head goes next among those that fit, but for some, or None. O(lanes with work)."""
        free = self.free
        if free.workers <= 0:
            return None
        best: Lane | None = None
        for lane in self._filled.values():
            if lane.cpu_milli > free.cpu_milli or lane in without or self._capped(lane):
                continue
            if best is None or lane.heap[0] < best.heap[0]:
                best = lane
        return best

    def waiting_in(self, lane: Lane, at_most: int) -> int:
        """How many positions wait in a lane, counted up to `at_most`."""
        count = 0
        for _rank, _sequence, first, end in lane.heap:
            count += end - first
            if count >= at_most:
                return at_most
        return count

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
        self._journal.append((self._put_back, lane, (rank, sequence, first, end)))
        return first, end

    def claim(self, lane: Lane) -> None:
        """Takes the request of one chunk of this lane out of what is free."""
        self._count(lane, 1)
        self._journal.append((self._count, lane, -1))

    def release(self, lane: Lane) -> None:
        """Gives back the request of one chunk."""
        self._count(lane, -1)
        self._journal.append((self._count, lane, 1))

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

    def mark(self) -> None:
        """From here on `rollback` undoes."""
        self._journal.clear()

    def rollback(self) -> None:
        """Undoes everything since `mark`."""
        for undo, lane, what in reversed(self._journal):
            undo(lane, what)
        self._journal.clear()

    def _capped(self, lane: Lane) -> bool:
        if lane.key[0] in self._held:
            return True
        return any(self._busy.get(whose, 0) >= cap for whose, cap in lane.caps)

    def _count(self, lane: Lane, sign: int) -> None:
        lane.chunks += sign
        self.free.cpu_milli -= sign * lane.cpu_milli
        self.free.workers -= sign
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
