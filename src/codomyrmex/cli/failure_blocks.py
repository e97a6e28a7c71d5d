"""The failed steps of one run, each with its block, and the commands that go on from there."""

from __future__ import annotations

from codomyrmex.cli import command_table
from codomyrmex.cli.failure_text import failure_lines, log_tail, next_lines
from codomyrmex.cli.invocation import Invocation
from codomyrmex.cli.terminal import Terminal
from codomyrmex.logistics.orchestration.project.run_views import RunReads, RunView, TaskView
from codomyrmex.workspace import Workspace

_MOST_BLOCKS = 3

Next = tuple[tuple[str, ...], str]


def failure_blocks(
    terminal: Terminal,
    invocation: Invocation,
    workspace: Workspace,
    reads: RunReads,
    run: RunView,
    *,
    again: Next | None = None,
) -> list[str]:
    """A block for each of the first failures; `again` is the command that would run it once more."""
    failed = failed_tasks(reads, run)
    if not failed:
        return [terminal.paint(run.error, "red")] if run.error else []
    lines: list[str] = []
    for task in failed[:_MOST_BLOCKS]:
        lines += [*([""] if lines else []), *failure_lines(terminal, task, log_tail(task.log_path))]
    rest = run.tasks.failed - min(len(failed), _MOST_BLOCKS)
    candidates: list[Next] = []
    if any(task.log_path is not None for task in failed[:_MOST_BLOCKS]):
        logged = next(task.name for task in failed if task.log_path is not None)
        candidates.append((("logs", run.execution_id, logged), "all that it printed"))
    if rest > 0:
        lines += ["", f"and {rest:,} more failed"]
        candidates.append((("tasks", "list", run.execution_id, "--status", "failed"), "all that failed"))
    if again is not None:
        candidates += [(("show", run.execution_id), "every step, and why it did not run"), again]
    return lines + next_lines(terminal, next_commands(invocation, workspace, candidates))


def failed_tasks(reads: RunReads, run: RunView) -> list[TaskView]:
    """Tasks that failed; a fan-out stands for itself only when none of its items failed."""
    failed = reads.tasks(run.execution_id, status="failed", limit=_MOST_BLOCKS * 2 + 2)
    items = {task.step for task in failed if task.index is not None}
    return [task for task in failed if task.index is not None or task.step not in items]


def next_commands(
    invocation: Invocation, workspace: Workspace, candidates: list[Next]
) -> list[tuple[str, str]]:
    """Those of them that this version has, as they are typed here."""
    return [
        (invocation.command(workspace, *words), about)
        for words, about in candidates
        if command_table.exists(words[0]) or command_table.exists(*words[:2])
    ]
