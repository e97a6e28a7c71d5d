"""News of a run that this process hosts: counts from the engine's memory, endings from its events.

Events come on the engine's own thread and are only put on a queue there; `look` takes them off. Nothing
is read from the store until the run has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Event
from typing import Any

from codomyrmex.cli.figures import duration_text
from codomyrmex.cli.log_files import LogTails, step_of
from codomyrmex.cli.run_follow import Moment
from codomyrmex.clock import to_datetime
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.run_views import (
    FINAL_STATUSES,
    FINAL_TASK_STATUSES,
    TaskCounts,
    TaskView,
)

_MOST_LOOK_UPS = 20
_LAST_NEWS_S = 2.0
_MOST_RETRIES = 20


@dataclass(slots=True)
class _Running:
    """An attempt under way, or a fan-out whose items are."""

    attempt: int
    since_us: int
    size: int | None = None


class HostedRun:
    """A `RunSource` over an engine; made before the run is started, so that it hears of everything."""

    def __init__(self, engine: OrchestrationEngine, *, streams: bool) -> None:
        self._engine = engine
        self._tails = LogTails() if streams else None
        self._events: deque[tuple[str, dict[str, Any]]] = deque()
        self._over = Event()
        self._running: dict[str, _Running] = {}
        self._since = datetime.now(UTC)
        self._looked_up = 0
        self._retries: list[tuple[str, str]] = []
        self.lost: list[str] = []
        """Tasks whose attempt died with an earlier engine and is made again."""
        self.run_id = ""
        engine.register_event_handler("*", self._hear)

    def look(self) -> Moment:
        """See `RunSource`; the last look waits a moment for the events that are still on their way."""
        run = self._engine.progress(self.run_id)
        if run.final:
            self._over.wait(_LAST_NEWS_S)
        else:
            run = replace(run, started_at=self._since)
        ended = list(self._ended())
        return Moment(run=run, running=self._now_running(), ended=ended, said=list(self._said(ended)))

    def wait(self, timeout_s: float) -> None:
        """See `RunSource`."""
        self._engine.wait(self.run_id, timeout_s)

    def _hear(self, event: str, data: dict[str, Any]) -> None:
        if self.run_id and data["run_id"] != self.run_id:
            return
        self._events.append((event, data))
        if event.removeprefix("run_") in FINAL_STATUSES and "task" not in data:
            self._over.set()

    def _ended(self) -> Iterator[TaskView]:
        while self._events:
            event, data = self._events.popleft()
            name = data.get("task")
            if name is None or data["run_id"] != self.run_id:
                continue
            details = data.get("details", ())
            if event == "started":
                self._running[name] = _Running(details[0], data["at_us"])
            elif event == "expanded":
                self._running[name] = _Running(1, data["at_us"], details[1])
            elif event == "completed" and self._tails is None and name.endswith("]"):
                self._running.pop(name, None)  # one of thousands that nobody would be told of
            elif event in FINAL_TASK_STATUSES:
                yield self._view(name, event, details, data["at_us"])
            elif event in ("retry_set", "returned"):
                self._running.pop(name, None)
                if event == "returned" and details[-1] == "lost":
                    self.lost.append(name)
                elif len(self._retries) < _MOST_RETRIES and details[-1] != "recalled":
                    self._retries.append((name, _retry_text(details, data["at_us"])))

    def _view(self, name: str, status: str, details: Any, at_us: int) -> TaskView:
        begun = self._running.pop(name, None)
        if begun is None and not name.endswith("]") and self._may_look_up():
            return self._engine.reader.task(self.run_id, name)
        reason = next((detail for detail in details if isinstance(detail, str)), None)
        return TaskView(
            name=name,
            step=step_of(name),
            index=int(name[len(step_of(name)) + 1 : -1]) if name.endswith("]") else None,
            status=status,
            reason=reason,
            attempt=begun.attempt if begun else 0,
            duration_s=(at_us - begun.since_us) / 1_000_000 if begun else None,
            error=self._error(name) if status == "failed" else None,
            log_path=self._log_path(name, begun),
            counts=TaskCounts(total=begun.size) if begun and begun.size is not None else None,
        )

    def _error(self, name: str) -> Any:
        return self._engine.reader.task(self.run_id, name).error if self._may_look_up() else None

    def _may_look_up(self) -> bool:
        # Finding one task among many costs a pass over all: the first ones are worth it.
        self._looked_up += 1
        return self._looked_up <= _MOST_LOOK_UPS

    def _now_running(self) -> list[TaskView]:
        oldest = sorted(
            ((begun.since_us, name) for name, begun in self._running.items() if begun.size is None)
        )
        return [
            TaskView(
                name=name,
                step=step_of(name),
                status="running",
                attempt=self._running[name].attempt,
                started_at=to_datetime(since_us),
                log_path=self._log_path(name, self._running[name]),
            )
            for since_us, name in oldest
        ]

    def _log_path(self, name: str, begun: _Running | None) -> str | None:
        if begun is None or begun.size is not None:
            return None
        return str(self._engine.workspace.log_path(self.run_id, name, begun.attempt))

    def _said(self, ended: list[TaskView]) -> Iterator[tuple[str, str]]:
        yield from self._retries
        self._retries.clear()
        if self._tails is None:
            return
        for task in ended:
            if task.log_path is not None:
                yield from ((task.name, line) for line in self._tails.rest(task.log_path))
        for task in self._now_running():
            if task.log_path is not None:
                yield from ((task.name, line) for line in self._tails.news(task.log_path))


def _retry_text(details: Any, at_us: int) -> str:
    """`attempt 1 failed, the next follows in 2.0 s` from the details of a `retry_set` or `returned` event."""
    number, kind = details[0], str(details[1]).replace("_", " ")
    when = duration_text((details[2] - at_us) / 1_000_000) if len(details) > 2 else "no time"
    return f"attempt {number} {kind}, the next follows in {when}"
