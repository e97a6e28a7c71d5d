"""A run that follows a plan: which of its tasks may begin next.

Layer: pure. The tasks begin in the order of the plan, and none before the one ahead of it has begun. When each takes
as long as was planned, each begins no later than was planned: what stands earlier in the plan began no later, so
whatever it held is free again by then. A task that will never begin (skipped, cancelled) is passed over; one that is
tried again, one that the plan does not name, and steps that hold no slot wait for nobody; and nobody waits for one that
waits for somebody itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.states import (
    CODES,
    FIRST_TERMINAL_CODE,
    StepKind,
    TaskStatus,
)

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
    from codomyrmex.logistics.orchestration.project.run_plan import RunPlan

_BLOCKED, _PENDING = CODES[TaskStatus.BLOCKED], CODES[TaskStatus.PENDING]
_UNBEGUN = frozenset((_PENDING, _BLOCKED))


def order_faults(order: Sequence[object], workflow: CompiledWorkflow) -> list[Fault]:
    """What is wrong with an order that a run of `workflow` is to follow; at most ten faults."""
    if isinstance(order, str):
        return [Fault(message="an order is a list of tasks", path="follow", got=repr(order))]
    found: list[Fault] = []
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for rank, name in enumerate(order):
        head, bracket, tail = str(name).partition("[")
        if isinstance(name, str) and "/" in name:
            continue  # of a child run, which has an order of its own
        step = workflow.index.get(head)
        if not isinstance(name, str) or step is None or (bracket and not tail[:-1].isdecimal()):
            allowed = tuple(workflow.names[:20])
            found.append(
                Fault(
                    message="there is no such task", path=f"follow[{rank}]", got=repr(name), allowed=allowed
                )
            )
            continue
        first.setdefault(step, rank)
        last[step] = rank
    for step, rank in first.items():
        for parent in workflow.graph.parents(step):
            if last.get(parent, -1) > rank:
                message = (
                    f"{workflow.names[step]!r} stands before {workflow.names[parent]!r}, which it depends on"
                )
                found.append(Fault(message=message, path=f"follow[{rank}]"))
    return found[:10]


class Turn:
    """The order of one run: tasks up to rank `at` may begin."""

    __slots__ = ("_names", "_ranks", "at")

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._ranks = {name: rank for rank, name in enumerate(self._names)}
        self.at = 0

    def rank_of(self, name: str) -> int:
        """The place of a task in the plan; -1, which is always let through, where the plan does not know it."""
        return self._ranks.get(name, -1)

    def look(self, plan: RunPlan) -> bool:
        """Moves on past all that has begun, never will, or must not be waited for; True where it has moved."""
        before = self.at
        while self.at < len(self._names) and _passed(plan, self._names[self.at]):
            self.at += 1
        return self.at > before

    def go_back(self, at: int) -> None:
        """Undoes `look`."""
        self.at = at


def _passed(plan: RunPlan, name: str) -> bool:
    """Whether nobody has to wait any more until a task has begun."""
    workflow = plan.run.workflow
    head, bracket, tail = name.partition("[")
    step = workflow.index.get(head)
    if step is None or step in workflow.waiting:
        return True
    position = step
    if plan.state_of(step) not in _UNBEGUN:
        found = plan.items_of(step) if bracket else None
        index = int(tail[:-1]) if tail[:-1].isdecimal() else -1
        if found is None or not 0 <= index < len(found[1]):
            return True  # it has begun, or the plan thought that there would be more items
        position = found[0] + index
    if plan.state_of(position) not in _UNBEGUN or plan.attempt_of(position) > 0:
        return True
    return plan.state_of(position) == _BLOCKED and _holds_up(plan, step)


def _holds_up(plan: RunPlan, step: int) -> bool:
    """Whether a task that is not ready would keep others waiting for no good reason.

    It waits for somebody (an answer, a signal, another run) for who knows how long; or nothing of the run is at
    work, so that it would wait for those that wait for it.
    """
    workflow = plan.run.workflow
    seen, ahead = {step}, [step]
    # A later phase begins when this one has ended: what sleeps now is ahead of it.
    sleeps = workflow.phase_of(step) != plan.phase.rank and _something_sleeps(plan)
    at_work = bool(
        plan.running
    )  # right after an engine died nothing runs, yet what it had begun is ready again
    while ahead:
        for parent in workflow.graph.parents(ahead.pop()):
            if parent in seen or plan.state_of(parent) >= FIRST_TERMINAL_CODE:
                continue
            wait = workflow.waiting.get(parent)
            if wait is not None and wait.kind is not StepKind.SLEEP:
                return True
            sleeps = sleeps or (wait is not None and plan.attempt_of(parent) > 0)
            at_work = at_work or _goes_on(plan, parent)
            seen.add(parent)
            ahead.append(parent)
    return not at_work and not sleeps


def _goes_on(plan: RunPlan, step: int) -> bool:
    """Whether a step is ready, or an item of it was begun before and is ready again."""
    found = plan.items_of(step)
    if found is None:
        return plan.state_of(step) == _PENDING
    first, items = found
    positions = range(first, first + len(items))
    return any(plan.state_of(at) == _PENDING and plan.attempt_of(at) > 0 for at in positions)


def _something_sleeps(plan: RunPlan) -> bool:
    """Whether anything of the run goes on by itself when its time comes."""
    coming = [*plan.run.timers, *(position for _ready_us, position in plan.timers)]
    return any(position >= 0 and plan.state_of(position) < FIRST_TERMINAL_CODE for position in coming)
