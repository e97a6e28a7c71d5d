"""A run that follows a plan: which of its tasks may begin next.

Layer: pure. The tasks begin in the order of the plan, and none before the one ahead of it has begun. When each takes
as long as was planned, each begins no later than was planned: what stands earlier in the plan began no later, so
whatever it held is free again by then. A task that will never begin (skipped, cancelled) is passed over; one that is
tried again, one that the plan does not name, and steps that hold no slot wait for nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from codomyrmex.logistics.orchestration.project.states import CODES, TaskStatus

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.run_plan import RunPlan

_UNBEGUN = frozenset((CODES[TaskStatus.PENDING], CODES[TaskStatus.BLOCKED]))


class Turn:
    """The order of one run: tasks up to rank `at` may begin. It only ever moves on."""

    __slots__ = ("_names", "_ranks", "at", "began_us")

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._ranks = {name: rank for rank, name in enumerate(self._names)}
        self.at = 0
        self.began_us: int | None = None
        """When its first task was ready; all of them stand in one ageing class, so the plan alone orders them."""

    def rank_of(self, name: str) -> int:
        """The place of a task in the plan; -1, which is always let through, where the plan does not know it."""
        return self._ranks.get(name, -1)

    def look(self, plan: RunPlan) -> bool:
        """Moves on past all that has begun or never will; True where it has moved."""
        before = self.at
        while self.at < len(self._names) and _passed(plan, self._names[self.at]):
            self.at += 1
        return self.at > before


def _passed(plan: RunPlan, name: str) -> bool:
    """Whether a task has begun, or never will."""
    workflow = plan.run.workflow
    head, bracket, tail = name.partition("[")
    position = workflow.index.get(head)
    if position is None or position in workflow.waiting:
        return True
    if plan.state_of(position) not in _UNBEGUN:
        found = plan.items_of(position) if bracket else None
        if found is None:
            return True
        first, items = found
        index = int(tail[:-1])
        if index >= len(items):
            return True  # the plan thought that there would be more
        position = first + index
    return plan.state_of(position) not in _UNBEGUN or plan.attempt_of(position) > 0
