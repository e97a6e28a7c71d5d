"""`codomyrmex logs`: what the steps of a run printed, whole, or as it comes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.line_report import said_lines
from codomyrmex.cli.log_files import AttemptLog, LogTails, last_attempts, lines_of, logs_of
from codomyrmex.cli.names import complete_runs, complete_tasks
from codomyrmex.cli.output import Output
from codomyrmex.cli.run_follow import REFRESH_S
from codomyrmex.cli.state_access import open_reads, run_and_task
from codomyrmex.exceptions import TaskNotFound
from codomyrmex.logistics.orchestration.project.run_views import RunReads
from codomyrmex.workspace import Workspace


@click.command(cls=Command)
@click.argument("run", metavar="[RUN]", default="@last", shell_complete=complete_runs)
@click.argument("task", metavar="[TASK]", required=False, shell_complete=complete_tasks)
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the run has ended.")
@click.option(
    "-n", "--lines", type=click.IntRange(min=1), metavar="N", help="Only the last N lines of each task."
)
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="That attempt, not the last.")
@pass_invocation
def logs(
    invocation: Invocation,
    *,
    run: str,
    task: str | None,
    follow: bool,
    lines: int | None,
    attempt: int | None,
) -> None:
    """Show what the steps printed.

    TASK is a step (with all its items) or an item such as parse[17]. One word may be a task of the
    last run. With several tasks each line stands behind the name of its task.
    """
    with open_reads(invocation) as (workspace, reads):
        run_id, task = run_and_task(reads, run, task)
        folder = workspace.runs / run_id
        if follow:
            _follow(invocation.output, reads, run_id, folder, task)
            return
        found = _chosen(logs_of(folder, task), attempt)
        if not found:
            _nothing(invocation, workspace, reads, run_id, task)
        _show(invocation.output, run_id, found, lines)


def _show(output: Output, run_id: str, found: Sequence[AttemptLog], lines: int | None) -> None:
    if output.json:
        texts = [
            {
                "task": log.task,
                "attempt": log.attempt,
                "path": str(log.path),
                "text": "\n".join(_last(log.path, lines)),
            }
            for log in found
        ]
        output.answer({"execution_id": run_id, "logs": texts}, [])
        return
    for log in found:
        said = _last(log.path, lines)
        _write(
            output, said if len(found) == 1 else said_lines(output.out, ((log.task, line) for line in said))
        )


def _write(output: Output, lines: Iterable[str]) -> None:
    for line in lines:
        output.out.line(line)
    output.out.flush()


def _chosen(logs: list[AttemptLog], attempt: int | None) -> list[AttemptLog]:
    """The last attempt of each task, or a certain one."""
    if attempt is None:
        return last_attempts(logs)
    found = [log for log in logs if log.attempt == attempt]
    if logs and not found:
        there = sorted({log.attempt for log in logs})
        names = ", ".join(str(number) for number in there)
        raise click.UsageError(
            f"no log of attempt {attempt}; there {'is' if len(there) == 1 else 'are'}: {names}"
        )
    return found


def _last(path: Path, lines: int | None) -> Iterable[str]:
    return lines_of(path) if lines is None else deque(lines_of(path), maxlen=lines)


def _nothing(
    invocation: Invocation, workspace: Workspace, reads: RunReads, run_id: str, task: str | None
) -> None:
    names = {name for each in reads.tasks(run_id) for name in (each.name, each.step)}
    if task is not None and task not in names:
        from difflib import get_close_matches

        nearest = get_close_matches(task, names, n=1)
        steps = invocation.command(workspace, "show", run_id)
        raise TaskNotFound(task, nearest=nearest[0] if nearest else None, hint=f"{steps} lists the steps")
    invocation.output.note(f"{task or run_id} printed nothing")


def _follow(output: Output, reads: RunReads, run_id: str, folder: Path, task: str | None) -> None:
    """Prints what is there and what comes, until the run has ended."""
    tails = LogTails()
    while True:
        ended = reads.run(run_id).final
        for log in logs_of(folder, task):
            said = tails.rest(str(log.path)) if ended else tails.news(str(log.path))
            if output.json:
                for line in said:
                    output.record({"task": log.task, "attempt": log.attempt, "line": line})
            else:
                _write(output, said_lines(output.out, ((log.task, line) for line in said)))
        if ended:
            return
        time.sleep(REFRESH_S)
