"""Runs and tasks as text: lists, one run in full, the words for how it ended.

Pure but for the streams' width and colour: views come in, lines go out, `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from codomyrmex.cli.figures import age_text, count_text, duration_text, instant_text
from codomyrmex.cli.output import json_text
from codomyrmex.cli.status_signs import status_cell, status_text
from codomyrmex.cli.terminal import Terminal, one_line, shorten
from codomyrmex.cli.text_table import Cell, Column, Row, table_lines
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskCounts, TaskView

_ENDED = ("completed", "failed", "skipped", "cancelled")
_LONGEST_VALUE = 1000  # the whole of it is in --json
_OPEN = ("running", "pending", "blocked")
_REASONS = {
    "dependencies": "waits for what it depends on",
    "timer": "waits for its next attempt",
    "upstream": "a step it depends on did not succeed",
    "condition": "its run_if said no",
    "trigger_rule": "its trigger_rule was not met",
    "cancelled": "the run was cancelled",
    "fail_fast": "another step failed, and fail_fast is set",
    "expression": "its condition or its items could not be worked out",
}


def runs_lines(terminal: Terminal, runs: Sequence[RunView], now: datetime) -> list[str]:
    """A table, one line for each run."""
    columns = [
        Column("RUN"),
        Column("WORKFLOW", shrink_to=12),
        Column("STATUS"),
        Column("TASKS", right=True),
        Column("STARTED"),
        Column("TOOK", right=True),
        Column("FAILED", shrink_to=10),
    ]
    rows: list[Row] = [
        [
            run.execution_id,
            run.workflow,
            status_cell(terminal, run.status),
            _share(run.tasks),
            instant_text(run.started_at or run.created_at, now),
            duration_text(run_duration_s(run, now)),
            Cell(run.failed_step or "", "red"),
        ]
        for run in runs
    ]
    return table_lines(terminal, columns, rows)


def live_runs_lines(terminal: Terminal, runs: Sequence[RunView], now: datetime) -> list[str]:
    """A table of runs that have not ended, with who works on them."""
    columns = [
        Column("RUN"),
        Column("WORKFLOW", shrink_to=12),
        Column("STATUS"),
        Column("TASKS", right=True),
        Column("RUNNING", right=True),
        Column("AGE", right=True),
        Column("OWNER", shrink_to=10),
    ]
    rows: list[Row] = [
        [
            run.execution_id,
            run.workflow,
            status_cell(terminal, run.status),
            _share(run.tasks),
            str(run.tasks.running) if run.tasks.running and run.owner != "nobody" else "",
            _age(run, now),
            Cell(run.owner or "", "yellow" if run.owner == "nobody" else ""),
        ]
        for run in runs
    ]
    return table_lines(terminal, columns, rows)


def tasks_lines(terminal: Terminal, tasks: Sequence[TaskView], now: datetime) -> list[str]:
    """A table, one line for each task; a fan-out shows how far its items are."""
    columns = [
        Column("TASK", shrink_to=16),
        Column("STATUS"),
        Column("ITEMS", right=True),
        Column("TRY", right=True),
        Column("TOOK", right=True),
        Column("WHY", shrink_to=16),
    ]
    rows: list[Row] = [
        [
            task.name,
            status_cell(terminal, task.status),
            _share(task.counts) if task.counts is not None else "",
            str(task.attempt) if task.attempt > 1 else "",
            duration_text(task_duration_s(task, now)),
            Cell(why_text(task), "red" if task.status == "failed" else "dim"),
        ]
        for task in tasks
    ]
    return table_lines(terminal, columns, rows)


def run_lines(terminal: Terminal, run: RunView, tasks: Sequence[TaskView], now: datetime) -> list[str]:
    """One run in full: how it stands, parameters, its steps, outputs."""
    lines = [headline(terminal, run, now), *(_fact(terminal, name, text) for name, text in _facts(run, now))]
    if run.parameters:
        lines += ["", terminal.paint("parameters", "bold"), *mapping_lines(terminal, run.parameters)]
    if tasks:
        lines += ["", *tasks_lines(terminal, tasks, now)]
    if run.outputs:
        lines += ["", terminal.paint("outputs", "bold"), *mapping_lines(terminal, run.outputs)]
    return lines


def task_lines(terminal: Terminal, task: TaskView, now: datetime) -> list[str]:
    """One task in full, its error left to `failure_text`."""
    facts = [
        ("action", f"{task.module}:{task.action}" if task.module else ""),
        ("attempt", str(task.attempt) if task.attempt else ""),
        ("started", instant_text(task.started_at, now)),
        ("took", duration_text(task_duration_s(task, now))),
        ("items", counts_text(task.counts, "item") if task.counts is not None else ""),
        ("why", why_text(task) if task.error is None else ""),
        ("log", task.log_path or ""),
    ]
    head = f"{terminal.paint(one_line(task.name), 'bold')}  {status_text(terminal, task.status)}"
    return [head, *(_fact(terminal, name, text) for name, text in facts if text)]


def headline(terminal: Terminal, run: RunView, now: datetime) -> str:
    """`nightly k3f9a2  ✓ completed in 12.3 s`."""
    took = duration_text(run_duration_s(run, now))
    words = {"running": "for", "paused": "after"}.get(run.status, "in")
    name = f"{terminal.paint(one_line(run.workflow), 'bold')} {run.execution_id}"
    return f"{name}  {status_text(terminal, run.status)}" + (f" {words} {took}" if took else "")


def outcome_lines(terminal: Terminal, run: RunView, now: datetime) -> list[str]:
    """How a run ended, for the end of `run`, `resume` and `watch`."""
    lines = [headline(terminal, run, now), f"  {counts_text(run.tasks)}"]
    if run.outputs:
        lines += mapping_lines(terminal, run.outputs)
    return lines


def counts_text(counts: TaskCounts, noun: str = "task") -> str:
    """`612 tasks: 600 completed, 1 failed, 11 cancelled`."""
    parts = [f"{getattr(counts, name):,} {name}" for name in (*_ENDED, *_OPEN) if getattr(counts, name)]
    head = count_text(counts.total, noun)
    if counts.completed == counts.total and counts.total:
        return f"{head}, all completed" if counts.total > 1 else f"{head}, completed"
    return f"{head}: {', '.join(parts)}" if parts else head


def why_text(task: TaskView) -> str:
    """One phrase: the error of a failed task, the reason of one that waits or never ran."""
    if task.error is not None:
        kind = str(task.error.get("type") or "").rpartition(".")[2]
        message = one_line(str(task.error.get("message") or ""))
        return f"{kind}: {message}" if kind and message else kind or message
    reason = task.reason or ""
    return _REASONS.get(reason, reason.replace("_", " "))


def mapping_lines(terminal: Terminal, values: Mapping[str, Any]) -> list[str]:
    """`  name: value` for each, values as JSON on one line, cut where the terminal ends."""
    names = {name: one_line(str(name)) for name in values}
    width = max((len(name) for name in names.values()), default=0)
    heads = {name: f"  {terminal.paint(text.ljust(width), 'dim')}  " for name, text in names.items()}
    return [_cut(terminal, heads[name], width + 4, value_text(value)) for name, value in values.items()]


def value_text(value: Any) -> str:
    """A value on one line: JSON types as JSON but for text, everything else as its text."""
    as_json = value is None or isinstance(value, bool | int | float | list | tuple | dict)
    text = json_text(value, pretty=False) if as_json else str(value)
    return one_line(shorten(text, _LONGEST_VALUE))


def run_duration_s(run: RunView, now: datetime) -> float | None:
    """How long the run took, or has taken so far."""
    return run.duration_s if run.duration_s is not None else _since(run.started_at, run.ended_at, now)


def task_duration_s(task: TaskView, now: datetime) -> float | None:
    """How long the task took, or has taken so far; None for one that never ran."""
    if task.duration_s is not None:
        return task.duration_s
    return _since(task.started_at, task.ended_at, now if task.status == "running" else None)


def _since(start: datetime | None, end: datetime | None, now: datetime | None) -> float | None:
    until = end or now
    return (until - start).total_seconds() if start is not None and until is not None else None


def _facts(run: RunView, now: datetime) -> Iterable[tuple[str, str]]:
    yield "started", instant_text(run.started_at or run.created_at, now)
    yield "tasks", counts_text(run.tasks)
    if run.owner is not None:
        yield "owner", "nobody: it waits to be resumed" if run.owner == "nobody" else run.owner
    if run.error and not run.failed_step:
        yield "error", run.error


def _fact(terminal: Terminal, name: str, text: str) -> str:
    return f"  {terminal.paint(name.ljust(8), 'dim')} {one_line(text)}"


def _cut(terminal: Terminal, head: str, head_width: int, text: str) -> str:
    limit = terminal.width
    room = max(20, limit - head_width) if limit is not None else None
    return head + (shorten(text, room, unicode=terminal.unicode) if room is not None else text)


def _share(counts: TaskCounts) -> str:
    return f"{counts.ended:,}/{counts.total:,}" if counts.total else ""


def _age(run: RunView, now: datetime) -> str:
    start = run.created_at or run.started_at
    return age_text((now - start).total_seconds()) if start is not None else ""
