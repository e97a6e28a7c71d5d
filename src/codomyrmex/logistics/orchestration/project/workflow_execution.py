"""A run in the hands of its caller.

Layer: above the reader. Every property reads committed state when asked; once the run is terminal the
answer is kept. `results` and `tasks` are lazy: nothing is read that nobody looks at. The keys that the
original API promised (`["success"]`, `["error"]`, `["result"]`, `["execution_time"]`) work too. A notebook
shows it as a page (`html_views`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from codomyrmex.exceptions import EngineClosed
from codomyrmex.logistics.orchestration.project.item_outputs import ItemOutputs
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskView
from codomyrmex.logistics.orchestration.project.states import WorkflowStatus

SHOWN_AT_MOST = 200
"""Of a run with more tasks than `EASY_TO_COUNT` a page shows the first so many."""
EASY_TO_COUNT = 5000


class WorkflowExecution:
    """One run of a workflow; see the module."""

    def __init__(
        self, reader: RunReader, execution_id: str, *, wait: Callable[[float | None], bool] | None = None
    ) -> None:
        self.execution_id = execution_id
        self._reader = reader
        self._wait = wait
        self._last: RunView | None = None

    @property
    def view(self) -> RunView:
        """The run as it is committed now."""
        if self._last is None or not self._last.final:
            self._last = self._reader.run(self.execution_id)
        return self._last

    @property
    def workflow_name(self) -> str:
        return self.view.workflow

    @property
    def status(self) -> WorkflowStatus:
        return WorkflowStatus(self.view.status)

    @property
    def success(self) -> bool:
        """True for a run that is COMPLETED."""
        return self.status is WorkflowStatus.COMPLETED

    @property
    def parameters(self) -> Mapping[str, Any]:
        return self.view.parameters or {}

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The workflow's declared outputs; empty until it has completed."""
        return self._reader.outputs(self.execution_id) if self.view.outputs else {}

    @property
    def results(self) -> Mapping[str, Any]:
        """The outputs of completed steps by name; a fan-out's is the sequence of its items', read when looked at."""
        return self._reader.results(self.execution_id)

    @property
    def tasks(self) -> Mapping[str, TaskView]:
        """Every task by name (`name`, `name[i]`), in the order of the definition."""
        return RunTasks(self._reader, self.execution_id)

    @property
    def error(self) -> str | None:
        """One line on why the run failed, or None."""
        return self.view.error

    @property
    def started_at(self) -> datetime | None:
        return self.view.started_at

    @property
    def ended_at(self) -> datetime | None:
        return self.view.ended_at

    @property
    def duration(self) -> float | None:
        """Seconds from start to end, or None while it runs."""
        return self.view.duration_s

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for the end; False when `timeout_s` was over first. Returns at once where no engine works on it."""
        if self._wait is None:
            return self.view.final
        ended = self._wait(timeout_s)
        if ended:
            self._last = self.view  # how it ended can then be asked when the engine is gone
        return ended

    def to_dict(self) -> dict[str, Any]:
        """The view of the run as plain values."""
        return self.view.to_dict()

    def __getitem__(self, key: str) -> Any:
        if key == "result":
            return {
                name: list(output) if isinstance(output, ItemOutputs) else output
                for name, output in self.results.items()
            }
        if key == "execution_time":
            return self.duration
        if key in ("success", "error", "status"):
            value = getattr(self, key)
            return value.value if isinstance(value, WorkflowStatus) else value
        return self.to_dict()[key]

    def __repr__(self) -> str:
        try:
            view = self.view
        except EngineClosed:
            return f"<WorkflowExecution {self.execution_id}; its engine is shut down>"
        took = f" in {view.duration_s:.3g} s" if view.duration_s is not None else ""
        error = f": {view.error}" if view.error is not None else ""
        return f"<WorkflowExecution {self.execution_id} of {view.workflow!r}: {view.status}{took}{error}>"

    def _repr_html_(self) -> str | None:
        """How a notebook shows the run as it stands now; None where its tasks can no longer be read."""
        from codomyrmex.logistics.orchestration.project.html_views import execution_html

        try:
            view = self.view
            limit = SHOWN_AT_MOST if view.tasks.total > EASY_TO_COUNT else None
            return execution_html(view, self._reader.tasks(self.execution_id, limit=limit))
        except EngineClosed:
            return None


class RunTasks(Mapping[str, TaskView]):
    """The tasks of a run by name, read together when somebody first looks; a photograph from then on."""

    def __init__(self, reader: RunReader, execution_id: str) -> None:
        self._reader = reader
        self._execution_id = execution_id
        self._found: dict[str, TaskView] | None = None

    def __getitem__(self, name: str) -> TaskView:
        return self._tasks()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks())

    def __len__(self) -> int:
        return len(self._tasks())

    def __repr__(self) -> str:
        return repr({name: task.status for name, task in self._tasks().items()})

    def _tasks(self) -> dict[str, TaskView]:
        if self._found is None:
            self._found = {task.name: task for task in self._reader.tasks(self._execution_id)}
        return self._found
