"""Every enum of the orchestrator, and the tables of what a run may become.

Layer: pure. Tasks live in `codomyrmex.logistics.task.states` (re-exported here), because the task
tables stand below the orchestrator.

A run is *pending* until the first drain takes it up, *running* until nothing of it is left to do, and
then one of three terminal states. Beside the status it has a *phase* (main, then compensating, on_failure,
finally as far as they are needed) and an *intent*: what somebody asked of it. Cancelling is an intent, not a
status: the run stays RUNNING until its last process is gone and its last handler has ended.
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
    "ConcurrencyPolicy",
    "Isolation",
    "ItemFailure",
    "OrchestrationMode",
    "RunIntent",
    "RunMove",
    "RunPhase",
    "StepKind",
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
    """Asked to pause, and nothing of it runs any more. Somebody resumes it, or cancels it."""
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
    PAUSED = "run_paused"
    RESUMED = "run_resumed"
    COMPLETED = "run_completed"
    FAILED = "run_failed"
    CANCELLED = "run_cancelled"


_R = WorkflowStatus

RUN_MOVES: dict[tuple[WorkflowStatus, RunMove], WorkflowStatus] = {
    (_R.PENDING, RunMove.STARTED): _R.RUNNING,
    (_R.PENDING, RunMove.CANCELLED): _R.CANCELLED,
    (_R.RUNNING, RunMove.PAUSED): _R.PAUSED,
    (_R.PAUSED, RunMove.RESUMED): _R.RUNNING,
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


class RunPhase(str, Enum):
    """Which part of a run is at work; they follow each other in this order, each once at most."""

    MAIN = "main"
    """The steps of the workflow. Its outcome is decided when nothing of it is open."""
    COMPENSATING = "compensating"
    """After a failure or a cancel: what has completed is undone, the last first."""
    ON_FAILURE = "on_failure"
    """After a failure."""
    FINALLY = "finally"
    """After every outcome."""

    @property
    def rank(self) -> int:
        """0 for MAIN to 3 for FINALLY."""
        return _PHASES.index(self.value)


_PHASES = ("main", "compensating", "on_failure", "finally")


class RunIntent(str, Enum):
    """What somebody asked of a run; PAUSE is taken back by a resume, the others are for good."""

    NONE = "none"
    """Go on."""
    PAUSE = "pause"
    """Start nothing, let what runs end, hold every timer."""
    CANCEL = "cancel"
    """Start nothing more of main; ask what runs to stop, end it after its grace. Then the handlers follow."""
    KILL = "kill"
    """End everything without grace, and start no handler."""

    @property
    def strength(self) -> int:
        """0 for NONE to 3 for KILL."""
        return _STRENGTHS[self.value]

    @property
    def ends(self) -> bool:
        """True for CANCEL and KILL."""
        return self.strength > 1


_STRENGTHS = {"none": 0, "pause": 1, "cancel": 2, "kill": 3}


class StepKind(str, Enum):
    """What a step is. All but ACTION hold no slot and no resources: the run itself looks after them."""

    ACTION = "action"
    """A Python action, run in attempts."""
    WORKFLOW = "workflow"
    """Another workflow, as a run of its own."""
    APPROVAL = "approval"
    """A question to a person."""
    SIGNAL = "wait_for"
    """Waits until somebody sends the run a signal of this name."""
    SLEEP = "sleep"
    """Lets a time pass."""


class ItemFailure(str, Enum):
    """What the failure of an item means for its fan-out."""

    FAIL = "fail"
    """The other items go on; then the step is FAILED."""
    STOP = "stop"
    """Items that have not begun are CANCELLED; then the step is FAILED."""
    CONTINUE = "continue"
    """The step is COMPLETED with null in the places of failed items."""


class ConcurrencyPolicy(str, Enum):
    """What becomes of a run while an older one with the same key is live."""

    QUEUE = "queue"
    """It waits, PENDING."""
    SKIP = "skip"
    """It ends at once, CANCELLED."""
    CANCEL_OLD = "cancel_old"
    """The older ones are asked to cancel, then it starts."""


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


class ResourceType(str, Enum):
    """What a resource is, and so the unit that its amounts are in."""

    CPU = "cpu"
    """Processors; shared in thousandths."""
    MEMORY = "memory"
    """Bytes."""
    GPU = "gpu"
    """Devices; shared in ten-thousandths, a fraction always on one device."""
    DISK = "disk"
    """Bytes; accounted, not enforced."""
    NETWORK = "network"
    """Bytes per second; accounted, not enforced."""
    API_QUOTA = "api_quota"
    """Calls (or whatever is counted) per time: taken at the start of an attempt, not given back."""
    CUSTOM = "custom"
    """Units of anything: a lock is one unit, a semaphore several."""


class ResourceStatus(str, Enum):
    """What can be had of a resource now."""

    AVAILABLE = "available"
    """Nobody holds any of it."""
    ALLOCATED = "allocated"
    """Some of it is held, some is free."""
    EXHAUSTED = "exhausted"
    """Nothing is free: who asks waits."""
    OFFLINE = "offline"
    """Taken out of service: who holds some keeps it, nobody gets any."""


class OrchestrationMode(str, Enum):
    """In which order a session's ready tasks begin. What does not fit is passed by in every mode."""

    SEQUENTIAL = "sequential"
    """One at a time, in the order in which they became ready."""
    PARALLEL = "parallel"
    """In the order in which they became ready, as many at once as fit."""
    PRIORITY = "priority"
    """The highest priority first, however long others wait; equals in the order in which they became ready."""
    RESOURCE_AWARE = "resource_aware"
    """What is urgent first: the longest path still ahead, large requests before small; a priority moves a task
    forward or back by a bounded time, so nothing starves. The default."""
