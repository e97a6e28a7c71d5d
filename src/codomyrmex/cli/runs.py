"""Reading runs: `ps`, `runs list`, `show`, `explain`. Each reads committed state and opens no engine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from textwrap import wrap

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.failure_blocks import failure_blocks
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.names import complete_runs, complete_tasks
from codomyrmex.cli.run_text import live_runs_lines, run_lines, runs_lines, why_text
from codomyrmex.cli.state_access import open_reads, run_and_task
from codomyrmex.cli.terminal import one_line
from codomyrmex.logistics.orchestration.project.run_views import RunReads, RunView, TaskView

_STATUSES = ("pending", "running", "paused", "completed", "failed", "cancelled")
_LIVE = ("running", "pending", "paused")
_MOST_LIVE = 1000
_MOST_ESTIMATED = 50
_MOST_REASONS = 40
_MOST_FAILED_ITEMS = 5
_MOST_TELLING_ITEMS = 5


@click.command("list", cls=Command)
@click.option("--status", type=click.Choice(_STATUSES), help="Only runs of this status.")
@click.option("--workflow", metavar="NAME", help="Only runs of this workflow.")
@click.option("--label", "labels", metavar="KEY=VALUE", multiple=True, help="Only runs with this label.")
@click.option("--roots", is_flag=True, help="Without runs that other runs started.")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many."
)
@click.option("--cursor", metavar="TEXT", help="Go on where an earlier list ended.")
@pass_invocation
def list_runs(
    invocation: Invocation,
    *,
    status: str | None,
    workflow: str | None,
    labels: tuple[str, ...],
    roots: bool,
    limit: int,
    cursor: str | None,
) -> None:
    """List runs, newest first.

    A run that another one started is marked; -v shows by which, and the labels.
    """
    output = invocation.output
    if cursor is not None and not cursor.isdecimal():
        raise click.UsageError(f"--cursor {cursor!r} is none that a list gave")
    wanted = dict(_label(word) for word in labels)
    with open_reads(invocation) as (workspace, reads):
        runs, next_cursor, total = reads.runs(limit, cursor, status, workflow, wanted, roots=roots)
        data = {"runs": [run.to_dict() for run in runs], "next_cursor": next_cursor, "total": total}
        lines = runs_lines(output.out, runs, _now(), labels=invocation.verbose > 0) if runs else []
        output.answer(data, lines)
        if not runs:
            output.note(
                f"no {'such ' if total == 0 and (status or workflow or labels) else ''}runs in {workspace.state}"
            )
        elif next_cursor is not None:
            filters = [
                ("--status", status),
                ("--workflow", workflow),
                *(("--label", word) for word in labels),
                ("--limit", str(limit) if limit != 20 else None),
            ]
            given = [word for name, value in filters if value is not None for word in (name, value)]
            given += ["--roots"] if roots else []
            more = invocation.command(workspace, "runs", "list", *given, "--cursor", next_cursor)
            output.note(f"{len(runs)} of {total:,}; the next: {more}", "dim")


def _label(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--label {word!r} is not key=value")
    return name, value


@click.command(cls=Command)
@pass_invocation
def ps(invocation: Invocation) -> None:
    """Show what runs now, and what waits to be resumed."""
    output = invocation.output
    with open_reads(invocation) as (workspace, reads):
        runs = [run for status in _LIVE for run in reads.runs(_MOST_LIVE, None, status, None)[0]]
        runs.sort(key=lambda run: run.created_at or _now(), reverse=True)
        runs = _families(runs)
        runs[:_MOST_ESTIMATED] = [reads.with_estimates(run)[0] for run in runs[:_MOST_ESTIMATED]]
        data = {"runs": [run.to_dict() for run in runs], "next_cursor": None, "total": len(runs)}
        lines = [] if invocation.json else live_runs_lines(output.out, runs, _now(), _waits(reads, runs))
        output.answer(data, lines if runs else [])
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
        found, tasks = reads.with_estimates(found, reads.tasks(found.execution_id, sources=True))
        steps = tasks if every else [task for task in tasks if task.index is None]
        data = found.to_dict() | {"steps": [task.to_dict() for task in steps]}
        lines = run_lines(output.out, found, steps if every else _with_odd_items(tasks), _now())
        if found.status == "failed":
            lines += ["", *failure_blocks(output.out, invocation, workspace, reads, found)]
        output.answer(data, lines)


@click.command(cls=Command)
@click.argument("run", metavar="[RUN]", default="@last", shell_complete=complete_runs)
@click.argument("task", metavar="[TASK]", required=False, shell_complete=complete_tasks)
@pass_invocation
def explain(invocation: Invocation, run: str, task: str | None) -> None:
    """Say why something waits, or why it ended as it did.

    One word may be a task of the last run. Of a failed run first what failed by itself, then what did not run
    because of it.
    """
    output = invocation.output
    with open_reads(invocation) as (_, reads):
        run_id, task = run_and_task(reads, run, task)
        found = reads.explanation(run_id, task)
        now = _now()
        said = found.sentences(now)
        width = output.out.width or 1_000_000
        output.answer(
            found.to_dict(now),
            [line for each in said[:_MOST_REASONS] for line in _wrapped(each, width)],
        )
        if len(said) > _MOST_REASONS and not invocation.json:
            output.note(f"and {len(said) - _MOST_REASONS:,} more; name a task, or ask with --json", "dim")


def _wrapped(sentence: str, width: int) -> list[str]:
    """Its lines, all but the first indented, so that one sees where each sentence begins."""
    return wrap(one_line(sentence), width, subsequent_indent="  ", break_on_hyphens=False)


def _with_odd_items(tasks: Sequence[TaskView]) -> list[TaskView]:
    """The steps, and of each fan-out the first items that failed, or that say how far they are."""
    shown: list[TaskView] = []
    failed = telling = 0
    for task in tasks:
        if task.index is None:
            failed = telling = 0
            shown.append(task)
            continue
        failed += task.status == "failed"
        telling += task.progress is not None
        if (task.status == "failed" and failed <= _MOST_FAILED_ITEMS) or (
            task.progress is not None and telling <= _MOST_TELLING_ITEMS
        ):
            shown.append(task)
    return shown


def _families(runs: Sequence[RunView]) -> list[RunView]:
    """Each run followed by those that it started."""
    ids = {run.execution_id for run in runs}
    children: dict[str | None, list[RunView]] = {}
    for run in runs:
        children.setdefault(run.parent if run.parent in ids else None, []).append(run)
    ordered: list[RunView] = []
    left = children.get(None, [])[::-1]
    while left:
        run = left.pop()
        ordered.append(run)
        left += children.get(run.execution_id, ())
    return ordered


def _waits(reads: RunReads, runs: Sequence[RunView]) -> dict[str, str]:
    """What those runs wait for of which nothing runs; for a child it is said at the child itself."""
    found = {}
    for run in runs:
        if run.status == "paused" or run.tasks.running or run.owner == "nobody":
            continue
        waits = [
            task
            for task in reads.tasks(run.execution_id, status="blocked")
            if task.waiting is not None and task.waiting.reason != "child"
        ]
        if waits:
            more = f", and {len(waits) - 1:,} more" if len(waits) > 1 else ""
            found[run.execution_id] = f"{waits[0].name} {why_text(waits[0], _now())}{more}"
    return found


def _now() -> datetime:
    return datetime.now(UTC)
