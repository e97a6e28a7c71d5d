"""`codomyrmex status`: this project at a glance."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.figures import count_text, size_text
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.run_text import runs_lines
from codomyrmex.cli.state_access import open_reads
from codomyrmex.logistics.orchestration.project.run_views import RunReads
from codomyrmex.workspace import Workspace

_STATUSES = ("running", "pending", "paused", "completed", "failed", "cancelled")
_LATEST = 5


@click.command(cls=Command)
@pass_invocation
def status(invocation: Invocation) -> None:
    """Show this project at a glance: what runs, what ran last."""
    output = invocation.output
    with open_reads(invocation) as (workspace, reads):
        counts = {name: reads.runs(1, None, name, None)[2] for name in _STATUSES}
        latest = reads.runs(_LATEST, None, None, None)[0]
        waiting = _waiting(reads)
        questions = len(reads.inbox())
        size_bytes = _size_bytes(workspace)
    data = {
        "root": str(workspace.root),
        "state": str(workspace.state),
        "state_bytes": size_bytes,
        "runs": counts,
        "waiting_to_be_resumed": waiting,
        "open_approvals": questions,
        "latest": [run.to_dict() for run in latest],
    }
    paint = output.out.paint
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    kept = size_text(size_bytes) if size_bytes else "nothing kept yet"
    lines = [
        f"{paint('root ', 'dim')}  {workspace.root}  {paint(f'({workspace.root_evidence})', 'dim')}",
        f"{paint('state', 'dim')}  {workspace.state}  {paint(f'({kept})', 'dim')}",
        f"{paint('runs ', 'dim')}  {told or 'none yet'}",
    ]
    if latest:
        lines += ["", *runs_lines(output.out, latest, datetime.now(UTC))]
    output.answer(data, lines)
    if waiting:
        resume = invocation.command(workspace, "resume", "--all")
        output.note(f"{count_text(len(waiting), 'run')} without an engine; {resume} goes on")
    if questions:
        inbox = invocation.command(workspace, "approvals", "list")
        output.note(f"{count_text(questions, 'approval')} to be answered: {inbox}")


def _waiting(reads: RunReads) -> list[str]:
    live = [run for name in _STATUSES[:3] for run in reads.runs(1000, None, name, None)[0]]
    return [run.execution_id for run in live if run.owner == "nobody" and run.parent is None]


def _size_bytes(workspace: Workspace) -> int:
    """What the database takes on disk; its files are looked at, never opened."""
    total = 0
    for name in ("state.db", "state.db-wal"):
        try:
            total += (workspace.state / name).stat().st_size
        except OSError:
            continue
    return total
