"""What a task can be, and the one table of what it may become.

Layer: pure; the lowest that knows of tasks. `orchestration.project.states` re-exports it.

Theory of operation. A task is *blocked* while something other than capacity holds it back, *pending*
when it only waits for a slot and resources, *running* from the commit that says so until the commit of
its outcome. The other four are terminal and never change; a retry of a whole run is a new run. Every
move is looked up in `MOVES`; a pair that is not there raises `IllegalTransition`, and the SQL that
writes the move repeats the guard. The picture in ARCHITECTURE.md is generated from this table.

The engine keeps states as small integers in a byte array (`CODES`, `NEXT`, `after`); names are for people.
"""

from __future__ import annotations

from enum import Enum

from codomyrmex.exceptions import IllegalTransition


class TaskStatus(str, Enum):
    """Where a task is in its life."""

    PENDING = "pending"
    """Ready; waits for a slot and its resources. The drain that finds room starts it."""
    BLOCKED = "blocked"
    """Held back by a `BlockReason`. What ends the reason moves it on."""
    RUNNING = "running"
    """An attempt has been committed as started and its outcome is not recorded yet; a fan-out step is
    RUNNING while its items are. Its attempt moves it on, or the recovery after its engine's death."""
    COMPLETED = "completed"
    """Its result is recorded. Terminal."""
    FAILED = "failed"
    """Its last attempt did not give a result, or its condition or parameters could not be worked out. Terminal."""
    CANCELLED = "cancelled"
    """Asked to stop, or something it needs did not succeed. Terminal."""
    SKIPPED = "skipped"
    """Its condition or trigger rule said no. Terminal."""

    @property
    def terminal(self) -> bool:
        """True where nothing moves the task any more."""
        return self in TERMINAL


TERMINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED})


class BlockReason(str, Enum):
    """What a blocked task waits for."""

    DEPENDENCIES = "dependencies"
    """Steps that it depends on are not terminal yet."""
    TIMER = "timer"
    """The delay before its next attempt, or the time that a `sleep` step lets pass."""
    APPROVAL = "approval"
    """Somebody has to answer."""
    SIGNAL = "signal"
    """A signal of this name has not been sent to the run yet."""
    CHILD = "child"
    """The run that it started has not ended."""


class TaskPriority(str, Enum):
    """How urgent a task is; ordered from LOW to CRITICAL."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for LOW to 3 for CRITICAL."""
        return _RANKS[self.value]

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, TaskPriority):
            return NotImplemented
        return self.rank < other.rank

    # Written out: `str` has the other three, by the alphabet, so nothing would fill them in.
    def __le__(self, other: object) -> bool:
        return self.rank <= other.rank if isinstance(other, TaskPriority) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self.rank > other.rank if isinstance(other, TaskPriority) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self.rank >= other.rank if isinstance(other, TaskPriority) else NotImplemented


_RANKS = {"low": 0, "normal": 1, "high": 2, "critical": 3}


class TaskMove(str, Enum):
    """What happens to a task, in the past tense; the journal uses the same words."""

    READY = "ready"
    """Everything it waited for is there."""
    STARTED = "started"
    """An attempt was admitted and committed."""
    EXPANDED = "expanded"
    """A fan-out step got its items."""
    WAITING = "waiting"
    """A step that holds no slot was opened: it waits for an answer, a signal, a time or another run."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    RETRY_SET = "retry_set"
    """The attempt failed and another follows after a delay."""
    RETURNED = "returned"
    """It goes back to the queue at once: recalled before it began, lost with its engine, or a retry without delay."""


_S, _M = TaskStatus, TaskMove

MOVES: dict[tuple[TaskStatus, TaskMove], TaskStatus] = {
    (_S.BLOCKED, _M.READY): _S.PENDING,
    (_S.BLOCKED, _M.EXPANDED): _S.RUNNING,
    (_S.BLOCKED, _M.WAITING): _S.BLOCKED,
    (_S.BLOCKED, _M.COMPLETED): _S.COMPLETED,
    (_S.BLOCKED, _M.FAILED): _S.FAILED,
    (_S.BLOCKED, _M.CANCELLED): _S.CANCELLED,
    (_S.BLOCKED, _M.SKIPPED): _S.SKIPPED,
    (_S.PENDING, _M.STARTED): _S.RUNNING,
    (_S.PENDING, _M.CANCELLED): _S.CANCELLED,
    (_S.RUNNING, _M.COMPLETED): _S.COMPLETED,
    (_S.RUNNING, _M.FAILED): _S.FAILED,
    (_S.RUNNING, _M.CANCELLED): _S.CANCELLED,
    (_S.RUNNING, _M.RETRY_SET): _S.BLOCKED,
    (_S.RUNNING, _M.RETURNED): _S.PENDING,
}

STATUSES = tuple(TaskStatus)
CODES: dict[TaskStatus, int] = {status: code for code, status in enumerate(STATUSES)}
"""The small integer that stands for a status in the columns of a run."""

FIRST_TERMINAL_CODE = CODES[TaskStatus.COMPLETED]
"""Codes from here on are terminal (the members are declared in that order)."""

NEXT: dict[TaskMove, tuple[int, ...]] = {
    move: tuple(CODES[MOVES[state, move]] if (state, move) in MOVES else -1 for state in STATUSES)
    for move in TaskMove
}
"""Per move, the code it leads to from each code, -1 where the table has none: `MOVES` for columns."""


def after(code: int, move: TaskMove) -> int:
    """The code of the state that `move` leads to; raises `IllegalTransition` where the table has none."""
    found = NEXT[move][code]
    if found < 0:
        raise IllegalTransition("task", STATUSES[code].value, move.value)
    return found
