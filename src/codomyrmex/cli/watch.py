"""`codomyrmex watch`: follows a run that another process works on, from what is committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.hosting import reporter_for, tell_outcome
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.log_files import LogTails
from codomyrmex.cli.names import complete_runs
from codomyrmex.cli.open_waits import OpenWait, notices_of, open_waits, paused_text, plain_command
from codomyrmex.cli.run_follow import Moment, follow
from codomyrmex.cli.run_text import AT_WORK
from codomyrmex.cli.standstill import Standstill
from codomyrmex.cli.state_access import open_reads
from codomyrmex.exceptions import Conflict
from codomyrmex.logistics.orchestration.project.run_views import RunReads, RunView, TaskView

_ESTIMATE_EVERY_S = 1.0
_SHARE = 9  # of ten parts of the time are spent asleep, however large the run is


class WatchedRun:
    """A `RunSource` over the readers. What ended before it began is no news."""

    def __init__(
        self,
        reads: RunReads,
        run_id: str,
        *,
        abandoned: str,
        streams: bool,
        command: Callable[..., str] = plain_command,
    ) -> None:
        self._reads = reads
        self._command = command
        self._waits: set[tuple[str, str]] = set()
        self._standing = ("main", "none")
        self._run_id = run_id
        self._abandoned = abandoned
        self._tails = LogTails() if streams else None
        self._ended: set[str] | None = None
        self._cost_s = 0.0
        self._estimated_s = float("-inf")
        self._estimate: tuple[float | None, float | None, float | None] = (None, None, None)
        self._left: dict[str, float | None] = {}
        self._standstill = Standstill(lambda: reads.explanation(run_id))

    def look(self) -> Moment:
        """See `RunSource`; raises `Conflict` when nobody works on the run any more."""
        begun_s = time.monotonic()
        run = self._reads.run(self._run_id)
        if run.owner == "nobody":
            raise Conflict(f"nobody works on run {self._run_id}", hint=f"{self._abandoned} goes on with it")
        tasks = self._reads.tasks(self._run_id)
        ended = self._news(tasks)
        run, running = self._estimates(
            run, [task for task in tasks if task.status == "running" and task.counts is None]
        )
        said = self._said(running, ended)
        waits = list(open_waits(self._reads, self._run_id, tasks))
        notices = [*self._changes(run), *self._questions(waits)]
        self._cost_s = time.monotonic() - begun_s
        names = [each.task for each in waits]
        held = self._standstill.text(idle=not (running or waits or run.final))
        return Moment(
            run=run, running=running, ended=ended, said=said, waiting=names, notices=notices, held=held
        )

    def wait(self, timeout_s: float) -> None:
        """See `RunSource`."""
        time.sleep(max(timeout_s, _SHARE * self._cost_s))

    def _estimates(self, run: RunView, running: list[TaskView]) -> tuple[RunView, list[TaskView]]:
        """Both with how long they go on, which is worked out once a second."""
        now_s = time.monotonic()
        if now_s - self._estimated_s >= _ESTIMATE_EVERY_S and not run.final:
            run, running = self._reads.with_estimates(run, running)
            self._estimate = (run.percent, run.left_s, run.left_p90_s)
            self._left = {task.name: task.left_s for task in running}
            self._estimated_s = now_s
            return run, running
        percent, left_s, late_s = self._estimate if not run.final else (None, None, None)
        return (
            replace(run, percent=percent, left_s=left_s, left_p90_s=late_s),
            [replace(task, left_s=self._left.get(task.name)) for task in running],
        )

    def _changes(self, run: RunView) -> list[str]:
        """What was asked of the run, and which part of it has begun, since the last look."""
        before, self._standing = self._standing, (run.phase, run.intent)
        told = []
        if run.intent == "pause" and before[1] != "pause":
            told.append(paused_text(self._command("resume", self._run_id)))
        if run.phase != before[0] and run.phase in AT_WORK:
            told.append(f"now {AT_WORK[run.phase]}")
        return told if not run.final else []

    def _questions(self, waits: Sequence[OpenWait]) -> list[str]:
        new = [each for each in waits if (each.run_id, each.task) not in self._waits]
        self._waits |= {(each.run_id, each.task) for each in new}
        return notices_of(new, self._command, datetime.now(UTC))

    def _news(self, tasks: Sequence[TaskView]) -> list[TaskView]:
        first, known = self._ended is None, self._ended or set()
        ended = [task for task in tasks if task.final and task.name not in known]
        self._ended = known | {task.name for task in ended}
        return [] if first else ended

    def _said(self, running: Sequence[TaskView], ended: Sequence[TaskView]) -> list[tuple[str, str]]:
        if self._tails is None:
            return []
        said = [
            (task.name, line) for task in ended if task.log_path for line in self._tails.rest(task.log_path)
        ]
        return said + [
            (task.name, line) for task in running if task.log_path for line in self._tails.news(task.log_path)
        ]


@click.command(cls=Command)
@click.argument("run", metavar="[RUN]", default="@last", shell_complete=complete_runs)
@pass_invocation
def watch(invocation: Invocation, run: str) -> int:
    """Follow a run until it ends.

    Ends as the run does: 0 when it completed, else 1. Ctrl-C ends the watching, not the run. With --json
    each line is one JSON document: tasks as they end, the run when it has ended.
    """
    with open_reads(invocation) as (workspace, reads):
        run_id = reads.find(run)
        resume = invocation.command(workspace, "resume", run_id)
        source = WatchedRun(
            reads,
            run_id,
            abandoned=resume,
            streams=invocation.verbose > 0,
            command=partial(invocation.command, workspace),
        )
        if invocation.json:
            return _records(invocation, source)
        ended = follow(source, reporter_for(invocation.output))
        code = 0 if ended.status == "completed" else 1
        tell_outcome(invocation, workspace, reads, ended, code)
        return code


def _records(invocation: Invocation, source: WatchedRun) -> int:
    told = None
    while True:
        moment = source.look()
        for task, line in moment.said:
            invocation.output.record({"event": "said", "task": task, "line": line})
        for ended in moment.ended:
            invocation.output.record({"event": "task", **ended.to_dict()})
        for notice in moment.notices:
            invocation.output.record({"event": "notice", "text": notice})
        if moment.run.final:
            invocation.output.record({"event": "run", **moment.run.to_dict()})
            return 0 if moment.run.status == "completed" else 1
        if (said := _progress_record(moment)) != told:
            told = said
            invocation.output.record({"event": "progress", **said})
        source.wait(0.25)


def _progress_record(moment: Moment) -> dict[str, object]:
    """How far the run and its tasks are, in steps that are worth a line."""
    run = moment.run
    return {
        "tasks": run.tasks.to_dict(),
        "percent": None if run.percent is None else int(run.percent),
        "left_s": None if run.left_s is None else round(run.left_s),
        "running": {
            task.name: task.progress.to_dict() for task in moment.running if task.progress is not None
        },
    }
