"""What a reader sees of a run: plain values, made by the store and drawn by every door.

Layer: pure; imports nothing of ours. A view is a photograph: it never changes and holds no connection.
Instants are aware UTC datetimes; durations are seconds; statuses are the string values of `states`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.approvals import Approval
    from codomyrmex.logistics.orchestration.project.explanations import RunExplanation
    from codomyrmex.logistics.orchestration.project.task_progress import Progress

FINAL_STATUSES = frozenset({"completed", "failed", "cancelled"})
FINAL_TASK_STATUSES = FINAL_STATUSES | {"skipped"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskCounts:
    """How many tasks of a run, or items of a fan-out, are in each state."""

    total: int = 0
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    running: int = 0
    pending: int = 0
    blocked: int = 0

    @property
    def ended(self) -> int:
        """How many will never change again."""
        return self.completed + self.failed + self.skipped + self.cancelled

    def to_dict(self) -> dict[str, int]:
        """Every count by its name."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """One run.

    `owner` is `this engine`, `engine N pid P`, `nobody` (it waits to be resumed), or None when it has ended.
    """

    execution_id: str
    workflow: str
    status: str
    parameters: Mapping[str, Any] | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_s: float | None = None
    tasks: TaskCounts = TaskCounts()
    outputs: Mapping[str, Any] | None = None
    failed_step: str | None = None
    error: str | None = None
    owner: str | None = None
    phase: str = "main"
    """Which part of the run is at work: main, compensating, on_failure, finally."""
    intent: str = "none"
    """What was asked of it: none, pause, cancel, kill."""
    parent: str | None = None
    """The run that started it."""
    labels: Mapping[str, str] | None = None
    concurrency: str | None = None
    percent: float | None = None
    """How much of the expected work is done, 0 to 100. Only known where it was asked for, and something was
    learned of the steps; so are the next two."""
    left_s: float | None = None
    """How long it is expected to go on,"""
    left_p90_s: float | None = None
    """and what that does not exceed in nine cases of ten."""

    @property
    def final(self) -> bool:
        """Whether the run has ended."""
        return self.status in FINAL_STATUSES

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it; instants as ISO 8601 texts."""
        return {
            "execution_id": self.execution_id,
            "workflow": self.workflow,
            "status": self.status,
            "parameters": dict(self.parameters or {}),
            "created_at": _iso(self.created_at),
            "started_at": _iso(self.started_at),
            "ended_at": _iso(self.ended_at),
            "duration_s": self.duration_s,
            "tasks": self.tasks.to_dict(),
            "outputs": dict(self.outputs or {}),
            "failed_step": self.failed_step,
            "error": self.error,
            "owner": self.owner,
            "phase": self.phase,
            "intent": self.intent,
            "parent": self.parent,
            "labels": dict(self.labels or {}),
            "concurrency": self.concurrency,
            "percent": self.percent,
            "left_s": self.left_s,
            "left_p90_s": self.left_p90_s,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """What an open task waits for: `reason` is approval, signal, child or timer."""

    reason: str
    what: str = ""
    """The question, the name of the signal, or the id of the child run."""
    who: tuple[str, ...] = ()
    """Who may answer; empty: anybody."""
    until: datetime | None = None
    """When it is over, or when the next attempt follows."""
    recorded_by: str | None = None
    """Who has answered, or sent the signal, where the run has not read it yet."""

    def text(self, now: datetime) -> str:
        """`an answer of alice until 15:02:11: Ship it?`, `signal go`, `the end of run k3f9a2c8xy`, `15:02:11`."""
        until = f" until {clock_text(self.until, now)}" if self.until is not None else ""
        if self.recorded_by is not None:
            what = "answer" if self.reason == "approval" else f"signal {self.what}"
            return f"the run to read the {what} of {self.recorded_by}"
        if self.reason == "approval":
            whose = f" of {', '.join(self.who)}" if self.who else ""
            return f"an answer{whose}{until}: {' '.join(self.what.split())}"
        if self.reason == "child":
            return f"the end of run {self.what}"
        return f"signal {self.what}{until}" if self.reason == "signal" else clock_text(self.until, now)

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "reason": self.reason,
            "what": self.what,
            "who": list(self.who),
            "until": _iso(self.until),
            "recorded_by": self.recorded_by,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskView:
    """One task, or a whole fan-out step: then `counts` tells of its items and `index` is None."""

    name: str
    step: str
    status: str
    index: int | None = None
    reason: str | None = None
    attempt: int = 0
    module: str = ""
    action: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_s: float | None = None
    error: Mapping[str, Any] | None = None
    log_path: str | None = None
    child: str | None = None
    """The run that it started."""
    counts: TaskCounts | None = None
    phase: str = "main"
    """The part of the run that it belongs to."""
    waiting: Wait | None = None
    """What it waits for while it is open without a slot, or before its next attempt."""
    source: str | None = None
    """Where a result came from that nothing ran for: cached or reused. Only known where it was asked for."""
    progress: Progress | None = None
    """What its running attempt said last of how far it is."""
    left_s: float | None = None
    """How long that attempt is expected to go on. Only known where it was asked for."""

    @property
    def percent(self) -> float | None:
        """0 to 100: of a running task what it says itself, of a fan-out how many of its items have ended."""
        if self.progress is not None:
            return self.progress.percent
        if self.counts is None or not self.counts.total:
            return None
        return 100.0 * self.counts.ended / self.counts.total

    @property
    def final(self) -> bool:
        """Whether the task will never change again."""
        return self.status in FINAL_TASK_STATUSES

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it; instants as ISO 8601 texts."""
        shown: dict[str, Any] = {
            "name": self.name,
            "step": self.step,
            "index": self.index,
            "status": self.status,
            "reason": self.reason,
            "attempt": self.attempt,
            "module": self.module,
            "action": self.action,
            "started_at": _iso(self.started_at),
            "ended_at": _iso(self.ended_at),
            "duration_s": self.duration_s,
            "error": dict(self.error) if self.error is not None else None,
            "log_path": self.log_path,
            "child": self.child,
            "phase": self.phase,
            "waiting": self.waiting.to_dict() if self.waiting is not None else None,
            "source": self.source,
            "progress": self.progress.to_dict() if self.progress is not None else None,
            "percent": self.percent,
            "left_s": self.left_s,
        }
        if self.counts is not None:
            shown["counts"] = self.counts.to_dict()
        return shown


class RunReads(Protocol):
    """What the doors ask about runs; every answer is a photograph of committed state."""

    def find(self, text: str) -> str:
        """The id behind an id, a unique prefix, a workflow's name (its latest run) or `@last`."""

    def runs(
        self,
        limit: int = 20,
        cursor: str | None = None,
        status: str | None = None,
        workflow: str | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        roots: bool = False,
    ) -> tuple[list[RunView], str | None, int]:
        """Newest first (with `roots` without child runs); the cursor of the next page, or None; how many in all."""

    def run(self, run_id: str) -> RunView:
        """One run; `RunNotFound` where there is none."""

    def tasks(
        self, run_id: str, *, status: str | None = None, limit: int | None = None, sources: bool = False
    ) -> list[TaskView]:
        """Tasks in the order of the definition, a fan-out before its items; with `sources` also theirs."""

    def with_estimates(self, run: RunView, tasks: Sequence[TaskView] = ()) -> tuple[RunView, list[TaskView]]:
        """A run that has not ended, and tasks of it, with how far they are and how long they are expected to go on."""

    def inbox(self, limit: int | None = None) -> list[tuple[str, Approval]]:
        """What waits for an answer, oldest first, each with the name of its task; with `limit` all, newest first."""

    def explanation(self, run_id: str, task: str | None = None) -> RunExplanation:
        """All that is known of why a run, or one task of it, stands as it does."""

    def has_task(self, run_id: str, name: str) -> bool:
        """Whether a run has a task of this name, one that was not wanted so far included."""


def clock_text(instant: datetime | None, now: datetime) -> str:
    """Local time of day, with the date where it is another day; `?` where it is unknown."""
    if instant is None:
        return "?"
    local = instant.astimezone()
    return f"{local:%H:%M:%S}" if local.date() == now.astimezone().date() else f"{local:%b %d %H:%M}"


def _iso(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant is not None else None
