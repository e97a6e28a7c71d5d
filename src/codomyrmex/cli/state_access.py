"""How commands reach the state: readers for those that look, nothing where nothing was ever kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from codomyrmex.cli.invocation import Invocation
from codomyrmex.exceptions import RunNotFound
from codomyrmex.logistics.orchestration.project.run_views import RunReads, RunView, TaskView
from codomyrmex.workspace import Workspace


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
    ) -> tuple[list[RunView], str | None, int]:
        """None."""
        return [], None, 0

    def run(self, run_id: str) -> RunView:
        """Raises `RunNotFound`."""
        raise RunNotFound(run_id, hint=self._hint)

    def tasks(self, run_id: str, *, status: str | None = None, limit: int | None = None) -> list[TaskView]:
        """None."""
        return []

    def explain(self, run_id: str, task: str | None = None) -> Sequence[str]:
        """Raises `RunNotFound`."""
        raise RunNotFound(run_id, hint=self._hint)


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
