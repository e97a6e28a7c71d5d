"""A run in the hands of its caller.

Layer: above the reader. Every property reads committed state when asked; once the run is terminal the
answer is kept. `results` and `tasks` are lazy: nothing is read that nobody looks at. The keys that the
original API promised (`["success"]`, `["error"]`, `["result"]`, `["execution_time"]`) work too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskView
from codomyrmex.logistics.orchestration.project.states import WorkflowStatus


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
        return self.view.outputs or {}

    @property
    def results(self) -> Mapping[str, Any]:
        """The outputs of completed steps by name; a fan-out's is the list of its items' in order."""
        return self._reader.results(self.execution_id)

    @property
    def tasks(self) -> Mapping[str, TaskView]:
        """Every task by name (`name`, `name[i]`), in the order of the definition."""
        return {task.name: task for task in self._reader.tasks(self.execution_id)}

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
        return self._wait(timeout_s) if self._wait is not None else self.view.final

    def to_dict(self) -> dict[str, Any]:
        """The view of the run as plain values."""
        return self.view.to_dict()

    def __getitem__(self, key: str) -> Any:
        if key == "result":
            return dict(self.results)
        if key == "execution_time":
            return self.duration
        if key in ("success", "error", "status"):
            value = getattr(self, key)
            return value.value if isinstance(value, WorkflowStatus) else value
        return self.to_dict()[key]

    def __repr__(self) -> str:
        return f"<WorkflowExecution {self.execution_id} of {self.view.workflow!r}: {self.view.status}>"
