"""Reading runs: `ps`, `runs list`, `show`, `explain`. Each reads committed state and opens no engine."""

from __future__ import annotations

from datetime import UTC, datetime
from textwrap import wrap

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.failure_blocks import failure_blocks
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.names import complete_runs
from codomyrmex.cli.run_text import live_runs_lines, run_lines, runs_lines
from codomyrmex.cli.state_access import open_reads
from codomyrmex.cli.terminal import one_line
from codomyrmex.logistics.orchestration.project.run_views import RunReads, RunView, TaskView

_STATUSES = ("pending", "running", "paused", "completed", "failed", "cancelled")
_LIVE = ("running", "pending", "paused")
_MOST_LIVE = 1000
_MOST_REASONS = 40


@click.command("list", cls=Command)
@click.option("--status", type=click.Choice(_STATUSES), help="Only runs of this status.")
@click.option("--workflow", metavar="NAME", help="Only runs of this workflow.")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many."
)
@click.option("--cursor", metavar="TEXT", help="Go on where an earlier list ended.")
@pass_invocation
def list_runs(
    invocation: Invocation, status: str | None, workflow: str | None, limit: int, cursor: str | None
) -> None:
    """List runs, newest first."""
    output = invocation.output
    with open_reads(invocation) as (workspace, reads):
        runs, next_cursor, total = reads.runs(limit, cursor, status, workflow)
        data = {"runs": [run.to_dict() for run in runs], "next_cursor": next_cursor, "total": total}
        output.answer(data, runs_lines(output.out, runs, _now()) if runs else [])
        if not runs:
            output.note(f"no runs in {workspace.state}")
        elif next_cursor is not None:
            filters = [
                ("--status", status),
                ("--workflow", workflow),
                ("--limit", str(limit) if limit != 20 else None),
            ]
            given = [word for name, value in filters if value is not None for word in (name, value)]
            more = invocation.command(workspace, "runs", "list", *given, "--cursor", next_cursor)
            output.note(f"{len(runs)} of {total:,}; the next: {more}", "dim")


@click.command(cls=Command)
@pass_invocation
def ps(invocation: Invocation) -> None:
    """Show what runs now, and what waits to be resumed."""
    output = invocation.output
    with open_reads(invocation) as (workspace, reads):
        runs = [run for status in _LIVE for run in reads.runs(_MOST_LIVE, None, status, None)[0]]
        runs.sort(key=lambda run: run.created_at or _now(), reverse=True)
        data = {"runs": [run.to_dict() for run in runs], "next_cursor": None, "total": len(runs)}
        output.answer(data, live_runs_lines(output.out, runs, _now()) if runs else [])
        if not runs:
            output.note(f"nothing runs; {invocation.command(workspace, 'runs', 'list')} lists what ended")
        elif any(run.owner == "nobody" for run in runs):
            everything = invocation.command(workspace, "resume", "--all")
            output.note(f"what belongs to nobody goes on with: {everything}")


@click.command(cls=Command)
@click.argument("run", metavar="[RUN]", default="@last", shell_complete=complete_runs)
@click.option("--tasks", "every", is_flag=True, help="Also every item of every fan-out.")
@pass_invocation
def show(invocation: Invocation, run: str, every: bool) -> None:
    """Show one run: its steps, outputs and errors.

    RUN is an id, the beginning of one, a workflow's name (its latest run) or @last, which is meant when
    it is left out.
    """
    output = invocation.output
    with open_reads(invocation) as (workspace, reads):
        found = reads.run(reads.find(run))
        tasks = _tasks(reads, found, every=every)
        data = found.to_dict() | {"steps": [task.to_dict() for task in tasks]}
        lines = run_lines(output.out, found, tasks, _now())
        if found.status == "failed":
            lines += ["", *failure_blocks(output.out, invocation, workspace, reads, found)]
        output.answer(data, lines)


@click.command(cls=Command)
@click.argument("run", metavar="[RUN]", default="@last", shell_complete=complete_runs)
@click.argument("task", metavar="[TASK]", required=False)
@pass_invocation
def explain(invocation: Invocation, run: str, task: str | None) -> None:
    """Say why something waits, or why it ended as it did."""
    output = invocation.output
    with open_reads(invocation) as (_, reads):
        run_id = reads.find(run)
        reasons = list(reads.explain(run_id, task))
        data = {"execution_id": run_id, "task": task, "reasons": reasons}
        width = output.out.width or 1_000_000
        output.answer(
            data, [line for each in reasons[:_MOST_REASONS] for line in wrap(one_line(each), width)]
        )
        if len(reasons) > _MOST_REASONS and not invocation.json:
            output.note(f"and {len(reasons) - _MOST_REASONS:,} more; name a task, or ask with --json", "dim")


def _tasks(reads: RunReads, run: RunView, *, every: bool) -> list[TaskView]:
    tasks = reads.tasks(run.execution_id)
    return tasks if every else [task for task in tasks if task.index is None]


def _now() -> datetime:
    return datetime.now(UTC)
