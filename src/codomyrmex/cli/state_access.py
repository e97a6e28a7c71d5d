"""How commands reach the state: readers for those that look, nothing where nothing was ever kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING

from codomyrmex.cli.invocation import Invocation
from codomyrmex.exceptions import RunNotFound
from codomyrmex.logistics.orchestration.project.run_views import RunReads, RunView, TaskView
from codomyrmex.workspace import Workspace

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.approvals import Approval
    from codomyrmex.logistics.orchestration.project.explanations import RunExplanation
    from codomyrmex.logistics.orchestration.project.run_control import RunControl
    from codomyrmex.logistics.orchestration.project.run_reader import RunReader


_LOOK_EVERY_S = 0.01
_MOST_NEAR = 1000


class NoRuns:
    """The readers of a state that does not exist yet; reading must not create it."""

    def __init__(self, workspace: Workspace) -> None:
        self._hint = f"nothing has run yet in {workspace.root}"

    def find(self, text: str) -> str:
        """Raises `RunNotFound`."""
        raise RunNotFound(text, hint=self._hint)

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
        """None."""
        return [], None, 0

    def run(self, run_id: str) -> RunView:
        """Raises `RunNotFound`."""
        raise RunNotFound(run_id, hint=self._hint)

    def tasks(
        self, run_id: str, *, status: str | None = None, limit: int | None = None, sources: bool = False
    ) -> list[TaskView]:
        """None."""
        return []

    def with_estimates(self, run: RunView, tasks: Sequence[TaskView] = ()) -> tuple[RunView, list[TaskView]]:
        """As they are."""
        return run, list(tasks)

    def inbox(self, limit: int | None = None) -> list[tuple[str, Approval]]:
        """Nothing."""
        return []

    def explanation(self, run_id: str, task: str | None = None) -> RunExplanation:
        """Raises `RunNotFound`."""
        raise RunNotFound(run_id, hint=self._hint)

    def has_task(self, run_id: str, name: str) -> bool:
        """False."""
        return False


@contextmanager
def open_reads(
    invocation: Invocation, workspace: Workspace | None = None
) -> Iterator[tuple[Workspace, RunReads]]:
    """The workspace of this call and the readers of its state; opens no engine and makes no file."""
    workspace = workspace or invocation.workspace()
    if not workspace.exists:
        yield workspace, NoRuns(workspace)
        return
    from codomyrmex.logistics.orchestration.project.run_reader import RunReader
    from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

    with closing(SQLiteDatabase.open_existing(workspace.database)) as database:
        yield workspace, RunReader(database, workspace.state)


@contextmanager
def open_control(invocation: Invocation) -> Iterator[tuple[Workspace, RunReader, RunControl]]:
    """What asks something of runs, whoever owns them; opens no engine. Raises `RunNotFound` without a state."""
    workspace = invocation.workspace()
    if not workspace.exists:
        raise RunNotFound("@last", hint=f"nothing has run yet in {workspace.root}")
    from codomyrmex.clock import SystemClock
    from codomyrmex.logistics.orchestration.project.run_control import RunControl
    from codomyrmex.logistics.orchestration.project.run_reader import RunReader
    from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

    with closing(SQLiteDatabase.open_existing(workspace.database)) as database:
        reader = RunReader(database, workspace.state)
        yield workspace, reader, RunControl(database, workspace.state, reader, now_us=SystemClock().now_us)


def is_delivered(reader: RunReader, run_id: str, *, patience_s: float = 2.0) -> bool:
    """Whether the engine that owns a run has dealt with what was asked of it; waits a moment where there is one."""
    deadline_s = time.monotonic() + patience_s
    while reader.open_wishes(run_id):
        if reader.run(run_id).owner == "nobody" or time.monotonic() >= deadline_s:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True


def run_and_task(reads: RunReads, run: str, task: str | None) -> tuple[str, str | None]:
    """The run and the task that were meant; one word may be a task of the last run.

    Then the task comes before a run whose id only begins so.
    """
    try:
        found = reads.find(run)
        if task is None and run not in (found, "@last") and run != reads.run(found).workflow:
            last = reads.find("@last")
            return (last, run) if reads.has_task(last, run) else (found, None)
        return found, task
    except RunNotFound:
        if task is not None or run == "@last":
            raise
        last = reads.find("@last")
        if reads.has_task(last, run):
            return last, run
        near = get_close_matches(run, [each.name for each in reads.tasks(last, limit=_MOST_NEAR)], n=1)
        if not near:
            raise
        raise RunNotFound(run, nearest=near[0], hint=f"that is a task of the last run, {last}") from None
