"""Where ready positions stand until they are admitted: shapes, and the lanes of runs within them.

Layer: pure. Equal requests of one party are one *shape*: whether it fits is asked once for all of them. The
positions of one run that make it stand in a *lane*, a heap of ranges, so a fan-out of any size is one entry. A shape
is a heap of its lanes by their heads. A new head is pushed and the old one is passed over when it comes to the top
out of date, so nothing is ever searched for; no entry is ever there twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any

from codomyrmex.logistics.orchestration.project.fair_share import Party
from codomyrmex.logistics.orchestration.project.followed_plan import Turn
from codomyrmex.logistics.orchestration.project.named_resources import Amounts
from codomyrmex.logistics.orchestration.project.resource_request import CPU, Request

LaneKey = tuple[int, int, int, bool, bool, int]
"""Run number, step number or -1 where the step has no cap, identity of the request, whether chunks may be long,
whether it is for worker processes; of a run that follows a plan also the ageing class, so that the plan alone orders
a lane."""
Cap = tuple[tuple[int, int], int]
"""At most so many attempts at once of (run number, step number or -1 for all of the run)."""
Entry = tuple[int, float, int, int, int, int]
"""The place (ageing class, minus urgency), sequence, when it became ready (microseconds), first and end position."""


@dataclass(slots=True, eq=False)
class Shape:
    """Equal requests of one party."""

    party: Party
    request: Request
    cpu_milli: int
    """At most all there is; 0 where it comes out of a pool and so stands in `rest`."""
    pool: str | None
    """The session out of whose holding it is served as far as that goes."""
    rest: Amounts
    """What it asks of the machine besides,"""
    plain: Amounts
    """and the part of that which is no device."""
    share: float
    """The largest part of anything there is that one attempt takes."""
    named: Amounts = ()
    gpu: int = 0
    extra: bool = False
    """True where CPU is not all that it asks for."""
    lane_count: int = 0
    heads: list[tuple[Entry, int, Lane]] = field(default_factory=list)
    """(head, number, lane); valid while it is the head of its lane."""
    ages: list[tuple[int, Entry, int, Lane]] = field(default_factory=list)
    """The same by when they became ready."""
    most: int = 64
    """With more ages than these, both heaps are tidied."""

    @property
    def asks(self) -> Amounts:
        """Everything that it asks of the machine."""
        return ((CPU, self.cpu_milli), *self.rest) if self.cpu_milli else self.rest

    def push(self, lane: Lane) -> None:
        """Makes the head of a lane known."""
        head = lane.heap[0]
        if id(head) not in lane.shown:
            lane.shown.add(id(head))
            heappush(self.heads, (head, lane.number, lane))
        if id(head) not in lane.aged:
            lane.aged.add(id(head))
            heappush(self.ages, (head[3], head, lane.number, lane))
            if len(self.ages) > self.most:
                self._tidy()

    def pop(self) -> None:
        """Takes the top away."""
        head, _number, lane = heappop(self.heads)
        lane.shown.discard(id(head))

    def top(self) -> Lane | None:
        """The lane whose head goes first, or None where nothing waits."""
        heads = self.heads
        while heads:
            head, _number, lane = heads[0]
            if lane.heap and lane.heap[0] is head:
                return lane
            self.pop()
        return None

    def _tidy(self) -> None:
        """Drops what is out of date in both heaps; O(1) for each push, taken together."""
        self.ages = [each for each in self.ages if _stands(each[3], each[1], each[3].aged)]
        self.heads = [each for each in self.heads if _stands(each[2], each[0], each[2].shown)]
        heapify(self.ages)
        heapify(self.heads)
        self.most = 64 + 2 * (len(self.ages) + len(self.heads))

    def pop_oldest(self) -> None:
        """Takes the oldest away."""
        _ready, head, _number, lane = heappop(self.ages)
        lane.aged.discard(id(head))

    def oldest(self) -> Lane | None:
        """The lane whose head has been ready for longest, or None where nothing waits."""
        ages = self.ages
        while ages:
            _ready, head, _number, lane = ages[0]
            if lane.heap and lane.heap[0] is head:
                return lane
            self.pop_oldest()
        return None

    def lanes(self) -> list[Lane]:
        """The lanes in which something waits, but for those that are parked."""
        found = {number: lane for head, number, lane in self.heads if lane.heap and lane.heap[0] is head}
        return list(found.values())


@dataclass(slots=True, eq=False)
class Lane:
    """Ready positions of one run that make the same request."""

    key: LaneKey
    number: int
    run: Any
    root: int
    """The number of the run at the top of its tree."""
    shape: Shape
    request: Request
    quick: bool
    caps: tuple[Cap, ...] = ()
    process: bool = False
    """True where attempts run in worker processes."""
    turn: Turn | None = None
    """Where its run follows a plan: who may begin."""
    cpu_milli: int = 0
    extra: bool = False
    span_us: int = 0
    """How long the tasks of its run let each other pass (`order_policy`)."""
    heap: list[Entry] = field(default_factory=list)
    shown: set[int] = field(default_factory=set)
    """The identities of its entries that stand in `heads` of its shape,"""
    aged: set[int] = field(default_factory=set)
    """and in `ages`."""
    chunks: int = 0
    """How many chunks of this lane are claimed."""

    @property
    def pool(self) -> str | None:
        return self.shape.pool


def _stands(lane: Lane, head: Entry, known: set[int]) -> bool:
    """Whether an entry is still the head of its lane; else it is forgotten among the known."""
    if lane.heap and lane.heap[0] is head:
        return True
    known.discard(id(head))
    return False
