"""News of a run that this process hosts: counts from the engine's memory, endings from its events.

Events come on the engine's own thread and are only put on a queue there; `look` takes them off. Nothing
is read from the store until the run has ended.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from threading import Event
from typing import Any

import click

from codomyrmex.cli.figures import duration_text
from codomyrmex.cli.invocation import invocation_of
from codomyrmex.cli.log_files import LogTails, step_of
from codomyrmex.cli.open_waits import TOLD, OpenWait, notices_of, open_waits, paused_text, plain_command
from codomyrmex.cli.run_follow import Moment
from codomyrmex.cli.run_text import AT_WORK
from codomyrmex.cli.standstill import Standstill
from codomyrmex.clock import to_datetime
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.run_views import (
    FINAL_STATUSES,
    FINAL_TASK_STATUSES,
    TaskCounts,
    TaskView,
)
from codomyrmex.logistics.orchestration.project.task_progress import Progress

_MOST_LOOK_UPS = 20
_LAST_NEWS_S = 2.0
_MOST_RETRIES = 20


@dataclass(slots=True)
class _Running:
    """An attempt under way, or a fan-out whose items are."""

    attempt: int
    since_us: int
    size: int | None = None
    progress: Progress | None = None


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
        self._failed_items: Counter[str] = Counter()
        self._open: dict[tuple[str, str], None] = {}
        self._told: set[tuple[str, str]] = set()
        self._notices: list[str] = []
        self._command = _command_here(engine)
        self._standstill = Standstill(lambda: engine.reader.explanation(self.run_id))
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
        notices, self._notices = [*self._notices, *self._questions()], []
        running = self._now_running()
        return Moment(
            run=run,
            running=running,
            ended=ended,
            said=list(self._said(ended)),
            waiting=[task for _run_id, task in list(self._open)],
            notices=notices if not run.final else (),
            held=self._standstill.text(idle=not (running or self._open or run.final)),
        )

    def wait(self, timeout_s: float) -> None:
        """See `RunSource`."""
        self._engine.wait(self.run_id, timeout_s)

    def catch_up(self) -> None:
        """Hears of what a run waits for that was begun by an earlier engine."""
        for each in open_waits(self._engine.reader, self.run_id):
            self._open[each.run_id, each.task] = None

    def _hear(self, event: str, data: dict[str, Any]) -> None:
        if event == "waiting" and data["details"][1] in TOLD:
            self._open[data["run_id"], data["task"]] = None  # also of a run that this one has started
        elif event in FINAL_TASK_STATUSES and self._open:
            self._open.pop((data["run_id"], data.get("task", "")), None)
        if self.run_id and data["run_id"] != self.run_id:
            return
        self._events.append((event, data))
        if event.removeprefix("run_") in FINAL_STATUSES and "task" not in data:
            self._over.set()

    def _ended(self) -> Iterator[TaskView]:
        while self._events:
            event, data = self._events.popleft()
            name = data.get("task")
            details = data.get("details", ())
            if data["run_id"] != self.run_id:
                continue
            if name is None:
                self._note(event, details)
                continue
            if event == "failed" and name.endswith("]"):
                self._failed_items[step_of(name)] += 1
            if event == "started":
                self._running[name] = _Running(details[0], data["at_us"])
            elif event == "task_progress":
                self._said_how_far(name, data)
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

    def _note(self, event: str, details: Any) -> None:
        """What becomes of the run as a whole."""
        if event == "intent" and details[0] == "pause":
            self._notices.append(paused_text(self._command("resume", self.run_id)))
        elif event == "phase":
            self._notices.append(f"now {AT_WORK[details[0]]}")

    def _said_how_far(self, name: str, data: dict[str, Any]) -> None:
        begun = self._running.get(name)
        if begun is not None:
            begun.progress = Progress(**{key: data[key] for key in ("done", "total", "message", "at_us")})

    def _questions(self) -> list[str]:
        """What has begun to wait for somebody since the last look."""
        new = [key for key in list(self._open) if key not in self._told]
        self._told.update(new)
        waits = []
        for run_id, task in new:
            wait = self._engine.reader.task(run_id, task).waiting if self._may_look_up() else None
            if wait is not None:
                waits.append(OpenWait(run_id, task, wait))
        return notices_of(waits, self._command, datetime.now(UTC))

    def _view(self, name: str, status: str, details: Any, at_us: int) -> TaskView:
        begun = self._running.pop(name, None)
        source = "cached" if status == "completed" and "cached" in details else None
        if begun is None and not name.endswith("]") and self._may_look_up():
            return replace(self._engine.reader.task(self.run_id, name), source=source)
        reason = next((detail for detail in details if isinstance(detail, str) and source is None), None)
        size = begun.size if begun is not None else None
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
            counts=TaskCounts(total=size, failed=self._failed_items[name]) if size is not None else None,
            source=source,
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
                progress=self._running[name].progress,
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


def _command_here(engine: OrchestrationEngine) -> Callable[..., str]:
    """Makes command lines for where the user of this call stands."""
    context = click.get_current_context(silent=True)
    if context is None:
        return plain_command
    return partial(invocation_of(context).command, engine.workspace)


def _retry_text(details: Any, at_us: int) -> str:
    """`attempt 1 failed, the next follows in 2.0 s` from the details of a `retry_set` or `returned` event."""
    number, kind = details[0], str(details[1]).replace("_", " ")
    when = duration_text((details[2] - at_us) / 1_000_000) if len(details) > 2 else ""
    return f"attempt {number} {kind}, the next follows {f'in {when}' if when else 'at once'}"
