"""Runs and tasks as text: lists, one run in full, the words for how it ended.

Pure but for the streams' width and colour: views come in, lines go out, `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from codomyrmex.cli.figures import (
    age_text,
    bar_text,
    count_text,
    duration_text,
    instant_text,
    left_text,
    percent_text,
)
from codomyrmex.cli.output import json_text
from codomyrmex.cli.status_signs import status_cell, status_text
from codomyrmex.cli.terminal import Terminal, one_line, shorten
from codomyrmex.cli.text_table import Cell, Column, Row, table_lines
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskCounts, TaskView, Wait
from codomyrmex.logistics.orchestration.project.task_progress import Progress

_ENDED = ("completed", "failed", "skipped", "cancelled")
_LONGEST_VALUE = 1000  # the whole of it is in --json
_BAR_WIDTH = 20
_OPEN = ("running", "pending", "blocked")
_REASONS = {
    "dependencies": "waits for what it depends on",
    "timer": "waits for its next attempt",
    "upstream": "a step it depends on did not succeed",
    "condition": "its run_if said no",
    "trigger_rule": "its trigger_rule was not met",
    "cancelled": "the run was cancelled",
    "fail_fast": "another step failed, and fail_fast is set",
    "timeout": "the run took longer than its timeout",
    "item_failed": "another item failed, and on_item_failure is stop",
    "nothing_to_undo": "its item had not completed",
    "concurrency": "another run has the same concurrency key",
    "expression": "its condition or its items could not be worked out",
}
_PHASES = {"compensating": "undoing", "on_failure": "on failure", "finally": "finally"}
AT_WORK = {
    "compensating": "undoing what had completed",
    "on_failure": "the on_failure steps",
    "finally": "the finally steps",
}


def runs_lines(
    terminal: Terminal, runs: Sequence[RunView], now: datetime, *, labels: bool = False
) -> list[str]:
    """A table, one line for each run, children marked; with `labels` also those, and the parents."""
    columns = [
        Column("RUN"),
        Column("WORKFLOW", shrink_to=8),
        Column("STATUS"),
        Column("TASKS", right=True),
        Column("STARTED"),
        Column("TOOK", right=True),
        Column("FAILED", shrink_to=6),
        Column("PARENT"),
        Column("LABELS", shrink_to=6),
    ]
    rows: list[Row] = [
        [
            run.execution_id,
            workflow_text(terminal, run),
            status_cell(terminal, run.status),
            _share(run.tasks),
            instant_text(run.started_at or run.created_at, now),
            duration_text(run_duration_s(run, now)),
            Cell(run.failed_step or "", "red"),
            (run.parent or "") if labels else "",
            ", ".join(f"{name}={value}" for name, value in (run.labels or {}).items()) if labels else "",
        ]
        for run in runs
    ]
    return table_lines(terminal, columns, rows)


def live_runs_lines(
    terminal: Terminal, runs: Sequence[RunView], now: datetime, waits: Mapping[str, str] | None = None
) -> list[str]:
    """A table of runs that have not ended, with who works on them; `waits` says what idle ones wait for."""
    columns = [
        Column("RUN"),
        Column("WORKFLOW", shrink_to=8),
        Column("STATUS"),
        Column("TASKS", right=True),
        Column("RUNNING", right=True),
        Column("DONE", right=True),
        Column("AGE", right=True),
        Column("LEFT", right=True),
        Column("NOW"),
        Column("OWNER", shrink_to=8),
    ]
    rows: list[Row] = [
        [
            run.execution_id,
            workflow_text(terminal, run),
            status_cell(terminal, run.status),
            _share(run.tasks),
            str(run.tasks.running) if run.tasks.running and run.owner != "nobody" else "",
            percent_text(run.percent),
            _age(run, now),
            age_text(run.left_s) if run.left_s else "",
            "pausing" if run.intent == "pause" and run.status != "paused" else _PHASES.get(run.phase, ""),
            Cell(_owner_text(run.owner), "yellow" if run.owner == "nobody" else ""),
        ]
        for run in runs
    ]
    titles, *lines = table_lines(terminal, columns, rows)
    shown = [titles]
    for run, line in zip(runs, lines, strict=True):
        shown.append(line)
        if waits is not None and run.execution_id in waits:
            indent = " " * (len(run.execution_id) + 2)
            shown.append(_cut(terminal, indent, len(indent), waits[run.execution_id]))
    return shown


def _owner_text(owner: str | None) -> str:
    """`pid 4121` of `engine 3 pid 4121`: a table has no room for both, and the process is what can be looked at."""
    engine, pid, number = (owner or "").partition("pid ")
    return pid + number if pid else engine


def tasks_lines(terminal: Terminal, tasks: Sequence[TaskView], now: datetime) -> list[str]:
    """A table, one line for each task; a fan-out shows how far its items are, handlers stand under headings."""
    columns = [
        Column("TASK", shrink_to=16),
        Column("STATUS"),
        Column("ITEMS", right=True),
        Column("TRY", right=True),
        Column("DONE", right=True),
        Column("TOOK", right=True),
        Column("RUN"),
        Column("WHY", shrink_to=16),
    ]
    rows: list[Row] = [
        [
            task.name,
            status_cell(terminal, task.status),
            _share(task.counts) if task.counts is not None else "",
            str(task.attempt) if task.attempt > 1 else "",
            progress_text(task.progress) if task.progress is not None else "",
            duration_text(task_duration_s(task, now)),
            task.child or "",
            Cell(why_text(task, now), "red" if task.status == "failed" else "dim"),
        ]
        for task in tasks
    ]
    titles, *lines = table_lines(terminal, columns, rows)
    parts = [titles]
    phase = "main"
    for task, line in zip(tasks, lines, strict=True):
        if task.phase != phase:
            phase = task.phase
            parts.append(terminal.paint(f"{_PHASES[phase]}:", "dim"))
        parts.append(line)
    return parts


def run_lines(terminal: Terminal, run: RunView, tasks: Sequence[TaskView], now: datetime) -> list[str]:
    """One run in full: how it stands, parameters, its steps, outputs."""
    lines = [headline(terminal, run, now), *(_fact(terminal, name, text) for name, text in _facts(run, now))]
    if run.percent is not None and not run.final:
        bar = bar_text(run.percent, _BAR_WIDTH, unicode=terminal.unicode)
        lines.insert(1, _fact(terminal, "progress", f"{bar} {standing_text(run)}"))
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
        ("done", progress_text(task.progress) if task.progress is not None else ""),
        ("items", counts_text(task.counts, "item") if task.counts is not None else ""),
        ("run", task.child or ""),
        ("phase", _PHASES.get(task.phase, "")),
        ("why", why_text(task, now) if task.error is None else ""),
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
    if run.status == "cancelled" and run.error:
        lines.append(f"  {terminal.paint(one_line(run.error), 'yellow')}")
    if run.outputs:
        lines += mapping_lines(terminal, run.outputs)
    return lines


def workflow_text(terminal: Terminal, run: RunView) -> str:
    """The name of its workflow, marked where another run started it."""
    if run.parent is None:
        return run.workflow
    return f"{'↳' if terminal.unicode else '>'} {run.workflow}"


def counts_text(counts: TaskCounts, noun: str = "task") -> str:
    """`612 tasks: 600 completed, 1 failed, 11 cancelled`."""
    parts = [f"{getattr(counts, name):,} {name}" for name in (*_ENDED, *_OPEN) if getattr(counts, name)]
    head = count_text(counts.total, noun)
    if counts.completed == counts.total and counts.total:
        return f"{head}, all completed" if counts.total > 1 else f"{head}, completed"
    return f"{head}: {', '.join(parts)}" if parts else head


def standing_text(run: RunView) -> str:
    """`67 %, about 3 min left`; empty where nothing is known."""
    parts = [percent_text(run.percent), left_text(run.left_s)]
    return ", ".join(part for part in parts if part)


def progress_text(progress: Progress) -> str:
    """`42 %`, or how much is done where nobody knows of how much: `1,204`."""
    if progress.percent is not None:
        return percent_text(progress.percent)
    return f"{progress.done:,.0f}" if progress.done >= 100 else f"{progress.done:.3g}"


def why_text(task: TaskView, now: datetime | None = None) -> str:
    """One phrase: the error of a failed task, what an open one waits for, the reason of one that never ran.

    Of a fan-out how many items failed; of a result that nothing ran for where it came from.
    """
    if task.counts is not None and task.counts.failed:
        return f"{task.counts.failed:,} failed"
    if task.error is not None:
        kind = str(task.error.get("type") or "").rpartition(".")[2]
        message = one_line(str(task.error.get("message") or ""))
        return f"{kind}: {message}" if kind and message else kind or message
    if task.status == "running":
        said = one_line(task.progress.message) if task.progress is not None else ""
        return ", ".join(part for part in (said, left_text(task.left_s)) if part)
    if task.waiting is not None and now is not None:
        return _wait_text(task.waiting, now)
    reason = task.reason or task.source or ""
    return _REASONS.get(reason, reason.replace("_", " "))


def _wait_text(wait: Wait, now: datetime) -> str:
    if wait.recorded_by is not None:
        verb = "answered" if wait.reason == "approval" else "sent it"
        return f"{wait.recorded_by} has {verb}; its run has not read it yet"
    if wait.reason == "approval":
        # The question first: a table is cut at its right.
        return f"asks {', '.join(wait.who) or 'anybody'}: {one_line(wait.what)}"
    if wait.reason == "child":
        return "waits for its run"
    text = wait.text(now)
    return f"waits until {text}" if wait.reason == "timer" else f"waits for {text}"


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
    if run.parent is not None:
        yield "parent", run.parent
    if run.labels:
        yield "labels", ", ".join(f"{name}={value}" for name, value in run.labels.items())
    if not run.final:
        yield from _standing(run)
    if run.error and not run.failed_step and run.status != "failed":
        yield "error", run.error


def _standing(run: RunView) -> Iterable[tuple[str, str]]:
    """Of a run that has not ended: who works on it, what is at work, what was asked of it."""
    if run.owner is not None:
        yield "owner", "nobody: it waits to be resumed" if run.owner == "nobody" else run.owner
    if run.phase in AT_WORK:
        yield "phase", AT_WORK[run.phase]
    if run.intent == "pause":
        held = "nothing new starts" if run.status == "paused" else "what runs ends first"
        yield "paused", f"{held}; codomyrmex resume {run.execution_id} goes on"
    elif run.intent in ("cancel", "kill"):
        yield "asked", f"to end ({run.intent})"
    if run.status == "pending" and run.concurrency is not None:
        yield "waits", f"for an older run with the concurrency key {run.concurrency!r}"


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
