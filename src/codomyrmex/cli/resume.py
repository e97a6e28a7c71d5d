"""`codomyrmex resume`: takes up runs whose engine is gone, in this process, and goes on with paused ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.names import complete_runs
from codomyrmex.cli.state_access import open_reads
from codomyrmex.exceptions import NotResumable
from codomyrmex.logistics.orchestration.project.run_views import RunView
from codomyrmex.workspace import Workspace

_LIVE = ("pending", "running", "paused")
_MOST = 10_000


@click.command(cls=Command)
@click.argument("run", metavar="[RUN]", required=False, shell_complete=complete_runs)
@click.option("--all", "everything", is_flag=True, help="Take up every run that has no engine any more.")
@pass_invocation
def resume(invocation: Invocation, run: str | None, everything: bool) -> int:
    """Take up runs that stopped, or were paused.

    What was recorded before a kill, a crash or a power cut is not run again. Left out, RUN is the one run
    that waits for an engine; when there are several, name one or say --all. A paused run that an engine
    holds goes on there.
    """
    if run is not None and everything:
        raise click.UsageError("name one run, or say --all; not both")
    with open_reads(invocation) as (workspace, reads):
        live = []
        if run is not None:
            wanted = [reads.run(reads.find(run))]
        else:
            live = [each for status in _LIVE for each in reads.runs(_MOST, None, status, None)[0]]
            wanted = [each for each in live if each.owner == "nobody" and each.parent is None]
    if run is None and len(wanted) > 1 and not everything:
        names = ", ".join(f"{each.execution_id} ({each.workflow})" for each in wanted[:5])
        raise click.UsageError(f"{len(wanted)} runs wait to be resumed: {names}; name one, or say --all")
    if not wanted:
        _end_what_is_left(invocation, workspace)
        _name_paused(invocation, workspace, live)
        invocation.output.answer({"runs": [], "next_cursor": None, "total": 0}, [])
        invocation.output.note("nothing to resume")
        return 0
    if len(wanted) == 1 and wanted[0].status == "completed":
        return _nothing_to_do(invocation, wanted[0])
    if (
        run is not None
        and wanted[0].intent == "pause"
        and wanted[0].owner != "nobody"
        and not wanted[0].final
    ):
        return _let_go_on(invocation, wanted[0])
    return _take_up(invocation, workspace, [each.execution_id for each in wanted])


def _end_what_is_left(invocation: Invocation, workspace: Workspace) -> None:
    """An engine that opens ends the processes of dead ones, also of those whose runs had all ended."""
    from codomyrmex.cli.hosting import open_engine

    with open_engine(workspace, invocation.settings(workspace)):
        pass


def _name_paused(invocation: Invocation, workspace: Workspace, live: Sequence[RunView]) -> None:
    for run in live:
        if run.intent == "pause" and run.parent is None:
            line = invocation.command(workspace, "resume", run.execution_id)
            invocation.output.note(f"run {run.execution_id} of {run.workflow} is paused: {line} goes on")


def _let_go_on(invocation: Invocation, run: RunView) -> int:
    """Takes back the pause of a run that a living engine holds."""
    from codomyrmex.cli.hosting import summary
    from codomyrmex.cli.run_text import outcome_lines
    from codomyrmex.cli.state_access import is_delivered, open_control

    with open_control(invocation) as (workspace, reader, control):
        control.resume(run.execution_id)
        delivered = is_delivered(reader, run.execution_id)
        now = reader.run(run.execution_id)
        invocation.output.answer(summary(now), outcome_lines(invocation.output.out, now, datetime.now(UTC)))
        watch = invocation.command(workspace, "watch", run.execution_id)
        said = "it goes on in" if delivered else "it was asked to go on in"
        invocation.output.note(f"{said} {run.owner}; {watch} shows how")
    return 0


def _nothing_to_do(invocation: Invocation, run: RunView) -> int:
    from codomyrmex.cli.hosting import summary

    invocation.output.answer(summary(run), [])
    invocation.output.note(f"nothing to do: run {run.execution_id} is completed")
    return 0


def _take_up(invocation: Invocation, workspace: Workspace, run_ids: list[str]) -> int:
    from codomyrmex.cli.hosting import open_engine, see_through, summary, tell_outcome
    from codomyrmex.cli.run_news import HostedRun

    ended: list[dict[str, Any]] = []
    codes: list[int] = []
    with open_engine(workspace, invocation.settings(workspace)) as engine:
        for run_id in run_ids:
            source = HostedRun(engine, streams=invocation.verbose > 0)
            source.run_id = run_id
            try:
                engine.resume(run_id)
                source.catch_up()
            except NotResumable as error:
                if len(run_ids) == 1:
                    raise
                invocation.output.warn(str(error))
                codes.append(1)
                continue
            run, code = see_through(invocation, engine, source)
            codes.append(code)
            ended.append(summary(run))
            if len(run_ids) == 1 or not invocation.json:
                tell_outcome(invocation, workspace, engine.reader, run, code)
    if len(run_ids) > 1 and invocation.json:
        _tell_all(invocation, ended, max(codes))
    return max(codes)


def _tell_all(invocation: Invocation, ended: list[dict[str, Any]], code: int) -> None:
    data = {"runs": ended, "next_cursor": None, "total": len(ended)}
    if code:
        failed = sum(run["status"] != "completed" for run in ended)
        invocation.output.failed(data, [], code="run_failed", message=f"{failed} runs did not complete")
    else:
        invocation.output.answer(data, [])
