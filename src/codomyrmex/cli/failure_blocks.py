"""The failed steps of one run, each with its block, and the commands that go on from there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from codomyrmex.cli import command_table
from codomyrmex.cli.failure_text import failure_lines, log_tail, next_lines
from codomyrmex.cli.figures import count_text
from codomyrmex.cli.invocation import Invocation
from codomyrmex.cli.terminal import Terminal, one_line
from codomyrmex.logistics.orchestration.project.run_views import RunReads, RunView, TaskView
from codomyrmex.workspace import Workspace

_MOST_BLOCKS = 3
_MOST_READ = 10_000


class Next(NamedTuple):
    """A command to go on with, what it is for, and the workflow file among its words."""

    words: tuple[str, ...]
    about: str
    file: Path | None = None


def failure_blocks(
    terminal: Terminal,
    invocation: Invocation,
    workspace: Workspace,
    reads: RunReads,
    run: RunView,
    *,
    again: Next | None = None,
) -> list[str]:
    """A block for each of the first failed steps; `again` is the command that would run it once more."""
    failed = failed_steps(reads, run)
    if not failed:
        return [terminal.paint(run.error, "red")] if run.error else []
    lines: list[str] = []
    if run.error and run.failed_step is None:
        lines.append(terminal.paint(one_line(run.error), "red"))
    shown = failed[:_MOST_BLOCKS]
    for first, others in shown:
        lines += [*([""] if lines else []), *failure_lines(terminal, first, log_tail(first.log_path))]
        if others:
            lines += ["", f"  {count_text(others, 'more item')} of {first.step} failed"]
    if len(failed) > len(shown):
        lines += ["", f"{count_text(len(failed) - len(shown), 'more step')} failed"]
    candidates: list[Next] = [
        Next(("logs", run.execution_id, first.name), "all that it printed")
        for first, _ in shown[:1]
        if first.log_path is not None
    ]
    if len(failed) > len(shown) or any(others for _, others in shown):
        candidates.append(Next(("tasks", "list", run.execution_id, "--status", "failed"), "all that failed"))
    if again is not None:
        candidates += [Next(("show", run.execution_id), "every step, and why it did not run"), again]
    return lines + next_lines(terminal, next_commands(invocation, workspace, candidates))


def failed_steps(reads: RunReads, run: RunView) -> list[tuple[TaskView, int]]:
    """Of each failed step the first task that failed, and how many more did."""
    found: dict[str, list[TaskView]] = {}
    for task in reads.tasks(run.execution_id, status="failed", limit=_MOST_READ):
        found.setdefault(task.step, []).append(task)
    # First what the run failed for, last the steps that went on although items of theirs failed.
    cause = (run.failed_step or "").partition("[")[0]
    ranked = sorted(
        found, key=lambda step: (step != cause, all(task.index is not None for task in found[step]))
    )
    steps = []
    for tasks in (found[step] for step in ranked):
        # A fan-out stands for itself only when none of its items failed.
        items = [task for task in tasks if task.index is not None] or tasks
        steps.append((items[0], len(items) - 1))
    return steps


def next_commands(
    invocation: Invocation, workspace: Workspace, candidates: list[Next]
) -> list[tuple[str, str]]:
    """Those of them that this version has, as they are typed here."""
    return [
        (invocation.command(workspace, *each.words, file=each.file), each.about)
        for each in candidates
        if command_table.exists(each.words[0]) or command_table.exists(*each.words[:2])
    ]
