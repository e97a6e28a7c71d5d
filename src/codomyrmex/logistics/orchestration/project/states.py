"""Every enum of the orchestrator, and the table of what a run may become.

Layer: pure. Tasks live in `codomyrmex.logistics.task.states` (re-exported here), because the task
tables stand below the orchestrator.

A run is *pending* until the first drain takes it up, *running* until nothing of it is left to do, and
then one of three terminal states. Cancelling is an intent beside the status, not a status: the run
stays RUNNING until its last process is gone.
"""

from __future__ import annotations

from enum import Enum

from codomyrmex.exceptions import IllegalTransition
from codomyrmex.logistics.task.states import (
    CODES,
    FIRST_TERMINAL_CODE,
    MOVES,
    NEXT,
    STATUSES,
    TERMINAL,
    BlockReason,
    TaskMove,
    TaskPriority,
    TaskStatus,
    after,
)

__all__ = [
    "CODES",
    "FIRST_TERMINAL_CODE",
    "MOVES",
    "NEXT",
    "RUN_MOVES",
    "STATUSES",
    "TERMINAL",
    "BlockReason",
    "Isolation",
    "RunIntent",
    "RunMove",
    "TaskMove",
    "TaskPriority",
    "TaskStatus",
    "TriggerRule",
    "WorkflowStatus",
    "after",
    "run_after",
]


class WorkflowStatus(str, Enum):
    """Where a run is in its life."""

    PENDING = "pending"
    """Accepted and stored; no drain has taken it up yet."""
    RUNNING = "running"
    """Its owner works on it. A cancelled run stays here until nothing of it runs any more."""
    PAUSED = "paused"
    """Asked to pause, and nothing of it runs any more. (The commands for it come with run control.)"""
    COMPLETED = "completed"
    """Every required step succeeded or was skipped. Terminal."""
    FAILED = "failed"
    """A required step failed. Terminal."""
    CANCELLED = "cancelled"
    """Somebody asked for it to stop, and it has. Terminal."""

    @property
    def terminal(self) -> bool:
        """True where nothing moves the run any more."""
        return self in _RUN_TERMINAL


_RUN_TERMINAL = frozenset({WorkflowStatus.COMPLETED, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED})


class RunMove(str, Enum):
    """What happens to a run, in the past tense; the journal uses the same words."""

    STARTED = "run_started"
    COMPLETED = "run_completed"
    FAILED = "run_failed"
    CANCELLED = "run_cancelled"


_R = WorkflowStatus

RUN_MOVES: dict[tuple[WorkflowStatus, RunMove], WorkflowStatus] = {
    (_R.PENDING, RunMove.STARTED): _R.RUNNING,
    (_R.PENDING, RunMove.CANCELLED): _R.CANCELLED,
    (_R.RUNNING, RunMove.COMPLETED): _R.COMPLETED,
    (_R.RUNNING, RunMove.FAILED): _R.FAILED,
    (_R.RUNNING, RunMove.CANCELLED): _R.CANCELLED,
}


def run_after(status: WorkflowStatus, move: RunMove) -> WorkflowStatus:
    """The status that `move` leads to; raises `IllegalTransition` where the table has none."""
    found = RUN_MOVES.get((status, move))
    if found is None:
        raise IllegalTransition("run", status.value, move.value)
    return found


class RunIntent(str, Enum):
    """What somebody asked of a run; it only ever grows stronger."""

    NONE = "none"
    """Go on."""
    CANCEL = "cancel"
    """Start nothing more; ask what runs to stop, end it after its grace."""
    KILL = "kill"
    """The same without grace."""

    @property
    def strength(self) -> int:
        """0 for NONE to 2 for KILL."""
        return _STRENGTHS[self.value]


_STRENGTHS = {"none": 0, "cancel": 1, "kill": 2}


class TriggerRule(str, Enum):
    """What a step asks of those it depends on, judged when all of them are terminal."""

    ALL_SUCCESS = "all_success"
    """All COMPLETED. One FAILED or CANCELLED: this one is CANCELLED; else one SKIPPED: SKIPPED."""
    NONE_FAILED = "none_failed"
    """None FAILED or CANCELLED (else CANCELLED); skipped ones do not matter."""
    ALL_DONE = "all_done"
    """Whatever they became."""
    ONE_SUCCESS = "one_success"
    """At least one COMPLETED, else SKIPPED."""
    ONE_FAILED = "one_failed"
    """At least one FAILED or CANCELLED, else SKIPPED."""


class Isolation(str, Enum):
    """Where an attempt runs."""

    PROCESS = "process"
    """In a warm worker process that can be killed with everything it started."""
    THREAD = "thread"
    """In a thread of the engine: cancelling is a request."""
    ASYNC = "async"
    """On the engine's event loop: cancelling is a request, delivered at the next await."""
