"""What follows when nothing of a phase is open any more: the next phase, or the end of the run.

Layer: pure; works on the plan of a drain.

    main ── outcome ──> compensating ──> on_failure ──> finally ──> terminal
             │           FAILED or        FAILED         always
             │           CANCELLED, and                  (where there are
             │           something to undo                such steps)
             └ COMPLETED: the outputs are worked out first

A kill skips what is left. What main became is decided once; a handler that fails can only turn COMPLETED
into FAILED. Compensation is a saga: what has completed is undone, the last first, one after the other, and a
step that cannot be undone does not keep the others from it (Garcia-Molina and Salem, Sagas, SIGMOD 1987).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codomyrmex.logistics.orchestration.project.expressions import EvaluationError
from codomyrmex.logistics.orchestration.project.run_overlay import encoded
from codomyrmex.logistics.orchestration.project.run_scope import RunScope
from codomyrmex.logistics.orchestration.project.run_state import (
    BLOCKED,
    SKIPPED,
)
from codomyrmex.logistics.orchestration.project.states import (
    FIRST_TERMINAL_CODE,
    RunIntent,
    RunMove,
    RunPhase,
    TaskMove,
    WorkflowStatus,
    after,
    run_after,
)

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.run_plan import RunPlan

_MOVES = {
    WorkflowStatus.COMPLETED: RunMove.COMPLETED,
    WorkflowStatus.FAILED: RunMove.FAILED,
    WorkflowStatus.CANCELLED: RunMove.CANCELLED,
}


def advance(plan: RunPlan) -> None:
    """Nothing of the present phase is open: begins the next one that is needed, or ends the run."""
    if plan.phase is RunPhase.MAIN:
        _decide(plan)
    elif plan.handler_failure is not None and plan.outcome is WorkflowStatus.COMPLETED:
        plan.outcome = WorkflowStatus.FAILED
        plan.result = (None, encoded(_failure(plan, plan.handler_failure)))
    if plan.intent is RunIntent.KILL:
        if plan.outcome is WorkflowStatus.COMPLETED and plan.phase is not RunPhase.MAIN:
            plan.outcome, plan.result = WorkflowStatus.CANCELLED, (None, None)
    else:
        for phase in list(RunPhase)[plan.phase.rank + 1 :]:
            if _is_needed(plan, phase):
                _enter(plan, phase)
                return
    _end(plan)


def _decide(plan: RunPlan) -> None:
    """What main became."""
    outputs: str | None = None
    error: dict[str, Any] | None = None
    if plan.intent.ends and plan.wish_cancelled:
        plan.outcome = WorkflowStatus.CANCELLED
    elif plan.stopping == "timeout":
        plan.outcome = WorkflowStatus.FAILED
        error = {"type": "RunTimedOut", "message": "the run took longer than its timeout"}
    elif plan.first_failure is not None:
        plan.outcome, error = WorkflowStatus.FAILED, _failure(plan, plan.first_failure)
    else:
        plan.outcome = WorkflowStatus.COMPLETED
        template = plan.run.workflow.outputs
        try:
            if template is not None:
                outputs = encoded(template.resolve(RunScope(plan.run, plan)))
        except EvaluationError as fault:
            plan.outcome = WorkflowStatus.FAILED
            error = {"type": "ExpressionError", "message": f"outputs: {fault}"}
    plan.result = (outputs, encoded(error))


def _failure(plan: RunPlan, position: int) -> dict[str, Any]:
    error = plan.errors.get(position) or plan.run.errors.get(position) or {}
    return {"step": plan.name_of(position), **error}


def _is_needed(plan: RunPlan, phase: RunPhase) -> bool:
    steps = plan.run.workflow.phase_steps(phase)
    if not steps:
        return False
    if phase is RunPhase.COMPENSATING:
        return plan.outcome is not WorkflowStatus.COMPLETED and bool(plan.run.undoable or plan.undoable)
    return phase is RunPhase.FINALLY or plan.outcome is WorkflowStatus.FAILED


def _enter(plan: RunPlan, phase: RunPhase) -> None:
    assert plan.outcome is not None
    plan.phase = phase
    plan.stopping = None
    plan.events.append(("phase", None, phase.value, plan.outcome.value))
    if phase is RunPhase.COMPENSATING:
        _plan_compensation(plan)
        return
    steps = plan.run.workflow.phase_steps(phase)
    plan.present += steps
    plan.open = len(steps)
    plan.begin_steps(steps)


def _plan_compensation(plan: RunPlan) -> None:
    """Fixes the order: the latest end first, and of equal ends the later position."""
    workflow = plan.run.workflow
    undo = sorted([*plan.run.undoable, *plan.undoable], reverse=True)
    positions: list[int] = []
    groups: dict[int, set[int]] = {}
    for _ended_us, position in undo:
        step = plan.step_of(position)
        undoing = workflow.compensations[step]
        if position == step:
            positions.append(undoing)
            plan.present.append(undoing)
            continue
        found = plan.items_of(step)
        assert found is not None, step
        if undoing not in groups:
            groups[undoing] = set()
            plan.present.append(undoing)
            plan.expand(undoing, found[1])
        number = position - found[0]
        groups[undoing].add(number)
        positions.append(plan.groups[undoing][0] + number)
    plan.open = len(plan.present) + sum(len(plan.groups[undoing][1]) for undoing in groups)
    plan.compensation = positions
    for undoing, wanted in groups.items():
        first, items = plan.groups[undoing]
        for number in range(len(items)):
            if number not in wanted:
                plan.settle_unstarted(first + number, SKIPPED, "nothing_to_undo")


def undo_next(plan: RunPlan) -> None:
    """Makes the first of the compensation ready that has not ended, unless it is at work or waits for a retry."""
    run, order = plan.run, plan.undoing
    if plan.compensation is None:  # what is committed as ended needs no second look
        while run.undone < len(order) and run.state[order[run.undone]] >= FIRST_TERMINAL_CODE:
            run.undone += 1
    for number in range(run.undone, len(order)):
        position = order[number]
        code = plan.state_of(position)
        if code >= FIRST_TERMINAL_CODE:
            continue
        waits = any(at == position for _ready_us, at in plan.timers) or position in run.timers
        if code == BLOCKED and not waits:
            plan.states[position] = after(BLOCKED, TaskMove.READY)
            plan.ready.append((position, position + 1))
        return


def _end(plan: RunPlan) -> None:
    assert plan.outcome is not None
    move = _MOVES[plan.outcome]
    plan.status = run_after(plan.status, move)
    plan.ended = True
    plan.events.append((move.value, None))
