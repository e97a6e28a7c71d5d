"""A task that has waited too long: for whom room is kept, or who goes before those that are only more urgent.

Layer: pure. Tasks of one run let each other pass for longer than those of different runs: within a run only its end
counts, and urgency serves that best.
"""

from __future__ import annotations

from typing import NamedTuple

from codomyrmex.logistics.orchestration.project.shapes import Entry, Lane, Shape


class Overdue(NamedTuple):
    """The head of a lane, as it stood when it was found to have waited too long."""

    shape: Shape
    lane: Lane
    head: Entry
    own_from_us: int
    """From then on also tasks of its own run must not delay it."""

    @classmethod
    def head_of(cls, lane: Lane) -> Overdue:
        """The head of a lane."""
        shape, head = lane.shape, lane.heap[0]
        return cls(shape, lane, head, head[3] + max(shape.party.policy.reserve_after_us, lane.span_us))

    def spares(self, lane: Lane, now_us: int) -> bool:
        """Whether a lane may still delay it, because it is of the same run."""
        return lane.root == self.lane.root and now_us < self.own_from_us

    def goes_before(self, lane: Lane, now_us: int) -> bool:
        """Whether it goes before the head of a lane: only urgency puts that one first, not its age or priority."""
        return lane.heap[0][0] >= self.head[0] and not self.spares(lane, now_us)

    @property
    def waits(self) -> bool:
        """Whether it still stands where it stood."""
        return bool(self.lane.heap) and self.lane.heap[0] is self.head
