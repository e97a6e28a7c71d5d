"""`codomyrmex tasks list|show`: the tasks of a run."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.failure_text import failure_lines, log_tail
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.names import complete_runs, complete_tasks
from codomyrmex.cli.run_text import task_lines, tasks_lines
from codomyrmex.cli.state_access import open_reads
from codomyrmex.exceptions import TaskNotFound

_STATUSES = ("pending", "blocked", "running", "completed", "failed", "cancelled", "skipped")


@click.command("list", cls=Command)
@click.argument("run", metavar="[RUN]", default="@last", shell_complete=complete_runs)
@click.option("--status", type=click.Choice(_STATUSES), help="Only tasks of this status.")
@click.option(
    "-n", "--limit", type=click.IntRange(min=1), default=200, show_default=True, help="At most so many."
)
@pass_invocation
def list_tasks(invocation: Invocation, run: str, status: str | None, limit: int) -> None:
    """List the tasks of a run, in the order of its definition."""
    output = invocation.output
    with open_reads(invocation) as (_, reads):
        run_id = reads.find(run)
        found = reads.tasks(run_id, status=status, limit=limit, sources=True)
        total = reads.run(run_id).tasks.total
        data = {"tasks": [task.to_dict() for task in found], "next_cursor": None, "total": total}
        output.answer(data, tasks_lines(output.out, found, datetime.now(UTC)) if found else [])
        if not found:
            output.note(f"no tasks{f' are {status}' if status else ''} in {run_id}")
        elif len(found) == limit:
            output.note(f"the first {limit}; --limit N shows more", "dim")


@click.command(cls=Command)
@click.argument("run", metavar="RUN", shell_complete=complete_runs)
@click.argument("task", metavar="TASK", shell_complete=complete_tasks)
@pass_invocation
def show(invocation: Invocation, run: str, task: str) -> None:
    """Show one task: its action, its attempt, its error.

    TASK is a step, or an item of a fan-out such as parse[17].
    """
    output = invocation.output
    with open_reads(invocation) as (workspace, reads):
        run_id = reads.find(run)
        named = {each.name: each for each in reads.tasks(run_id, sources=True)}
        found = named.get(task)
        if found is None:
            from difflib import get_close_matches

            nearest = get_close_matches(task, named, n=1)
            hint = f"{invocation.command(workspace, 'show', run_id)} lists the steps"
            raise TaskNotFound(task, nearest=nearest[0] if nearest else None, hint=hint)
        lines = task_lines(output.out, found, datetime.now(UTC))
        if found.error is not None:
            lines += ["", *failure_lines(output.out, found, log_tail(found.log_path))]
            if found.error.get("traceback"):
                lines += ["", *str(found.error["traceback"]).rstrip().splitlines()]
        output.answer(found.to_dict(), lines)
