"""What parents and the runs that their steps start tell each other.

Layer: beside the drain. A child is stored in the transaction that lets its step wait, so there is exactly one
for each attempt of a task, whatever dies when. What a parent asks of its children is a row in the transaction
of the plan that asks, so it is not lost with an engine and reaches a child that has not begun. The end of a
child travels back as news; after a crash its row tells.
"""

from __future__ import annotations

import msgspec

from codomyrmex.exceptions import CodomyrmexError
from codomyrmex.logistics.orchestration.project.news import ChildEnded
from codomyrmex.logistics.orchestration.project.run_plan import RunPlan
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import RunIntent, WorkflowStatus
from codomyrmex.logistics.storage.database import Transaction

ASK_CHILD = """
INSERT INTO intent (run, kind, by, at) SELECT number, ?, 'its parent', ? FROM run
WHERE parent = ? AND parent_position = ? AND status IN ('pending', 'running', 'paused')
"""
_KINDS = {
    RunIntent.NONE: "resume",
    RunIntent.PAUSE: "pause",
    RunIntent.CANCEL: "cancel",
    RunIntent.KILL: "kill",
}


def ask_children(tx: Transaction, plan: RunPlan) -> None:
    """Writes what a plan asks of the children of its run."""
    rows = [
        (_KINDS[intent], plan.now_us, plan.run.number, position) for position, intent in plan.child_wishes
    ]
    tx.execute_many(ASK_CHILD, rows)


def end_of(run: RunState) -> ChildEnded | None:
    """The news for its parent that a child has ended; None for a run without one."""
    outputs, error = run.result if run.result is not None else (None, None)
    return _ended(run, run.status, outputs, error)


def broken_end_of(run: RunState, error: CodomyrmexError) -> ChildEnded | None:
    """The news for its parent that a child cannot go on in this engine."""
    told = {"type": type(error).__name__, "message": str(error)}
    return _ended(run, WorkflowStatus.FAILED, None, msgspec.json.encode(told).decode())


def _ended(
    run: RunState, status: WorkflowStatus, outputs: str | None, error: str | None
) -> ChildEnded | None:
    if run.parent is None:
        return None
    return ChildEnded(
        run_number=run.parent.run,
        position=run.parent.position,
        attempt=run.parent.attempt,
        id=run.id,
        status=status,
        outputs=outputs,
        error=error,
    )
