"""`codomyrmex cancel`: asks the engine that owns a run to end it; what nobody owns is ended here."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.hosting import open_engine, summary
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.names import complete_runs
from codomyrmex.cli.run_text import AT_WORK, outcome_lines
from codomyrmex.cli.state_access import open_reads
from codomyrmex.logistics.orchestration.project.run_views import RunView
from codomyrmex.workspace import Workspace

_LOOK_EVERY_S = 0.05


@click.command(cls=Command)
@click.argument("run", metavar="RUN", shell_complete=complete_runs)
@click.option("--kill", is_flag=True, help="End what runs at once, without its grace of 5 seconds.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=10,
    metavar="SECONDS",
    help="Wait so long for its end.",
)
@pass_invocation
def cancel(invocation: Invocation, run: str, kill: bool, wait_s: float) -> int:
    """Stop a run and everything that it started.

    Nothing more of it begins; what runs gets SIGTERM, and after 5 seconds SIGKILL, with all its children.
    Then what has a `compensate` is undone and the `finally` steps run; with --kill nothing follows. A run
    that has ended stays as it is.
    """
    with open_reads(invocation) as (workspace, reads):
        found = reads.run(reads.find(run))
    if found.final:
        invocation.output.answer(
            summary(found), outcome_lines(invocation.output.out, found, datetime.now(UTC))
        )
        invocation.output.note(f"run {found.execution_id} has ended already")
        return 0
    if found.owner == "nobody":
        ended = _end_here(invocation, workspace, found, kill=kill)
    else:
        ended = _ask(invocation, workspace, found, kill=kill, wait_s=wait_s)
    invocation.output.answer(summary(ended), outcome_lines(invocation.output.out, ended, datetime.now(UTC)))
    if not ended.final:
        _tell_still_runs(invocation, workspace, ended, kill=kill)
    return 0


def _tell_still_runs(invocation: Invocation, workspace: Workspace, run: RunView, *, kill: bool) -> None:
    watch = invocation.command(workspace, "watch", run.execution_id)
    if run.phase in AT_WORK and not kill:
        at_once = invocation.command(workspace, "cancel", run.execution_id, "--kill")
        invocation.output.note(f"its clean-up goes on ({AT_WORK[run.phase]}): {at_once} ends that too")
    else:
        invocation.output.note(f"it has been asked to end, and still runs; {watch} shows when it has")


def _end_here(invocation: Invocation, workspace: Workspace, run: RunView, *, kill: bool) -> RunView:
    with open_engine(workspace, invocation.settings(workspace)) as engine:
        engine.cancel(run.execution_id, kill=kill)
        engine.wait(run.execution_id)
        return engine.reader.run(run.execution_id)


def _ask(invocation: Invocation, workspace: Workspace, run: RunView, *, kill: bool, wait_s: float) -> RunView:
    from codomyrmex.clock import SystemClock
    from codomyrmex.logistics.orchestration.project.wish_sending import ask_owner
    from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

    database = SQLiteDatabase.open_existing(workspace.database)
    try:
        now_us = SystemClock().now_us()
        ask_owner(database, workspace.state, run.execution_id, "kill" if kill else "cancel", now_us=now_us)
    finally:
        database.close()
    deadline_s = time.monotonic() + wait_s
    with open_reads(invocation, workspace) as (_, reads):
        while True:
            run = reads.run(run.execution_id)
            if run.final or run.owner == "nobody" or time.monotonic() >= deadline_s:
                return run
            time.sleep(_LOOK_EVERY_S)
