"""Hosting runs in this process: the engine, the person who watches, Ctrl-C, time limits, the exit code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from codomyrmex.cli.failure_blocks import Next, failure_blocks
from codomyrmex.cli.interrupts import Interrupts
from codomyrmex.cli.invocation import Invocation
from codomyrmex.cli.output import Output
from codomyrmex.cli.run_follow import Moment, Reporter, RunSource, SilentReporter, follow
from codomyrmex.cli.run_text import outcome_lines
from codomyrmex.logistics.orchestration.project.run_views import RunReads, RunView
from codomyrmex.settings import Settings
from codomyrmex.workspace import Workspace

if TYPE_CHECKING:
    from codomyrmex.cli.run_news import HostedRun
    from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine

WORK_FAILED = 1
TIMED_OUT = 124
INTERRUPTED = 130


@contextmanager
def open_engine(workspace: Workspace, settings: Settings) -> Iterator[OrchestrationEngine]:
    """An engine on this workspace that takes over nothing by itself; shut down at the end."""
    from codomyrmex.logistics.orchestration.project.executors.thread_output import captured
    from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine

    with (
        captured(),
        OrchestrationEngine(
            {
                "workflow_paths": settings.workflow_paths,
                "action_modules": settings.action_modules,
                "settings": settings,
            },
            root=workspace.root,
            state=workspace.state,
            durability=settings.durability,
            max_workers=settings.max_workers,
            python=settings.worker_python,
            recover=False,
        ) as engine,
    ):
        yield engine


def reporter_for(output: Output) -> Reporter:
    """A live view on a terminal, plain lines elsewhere; nothing with -q; with --json in a pipe only by -v."""
    if output.quiet or (output.json and not output.verbose and not output.err.is_tty):
        return SilentReporter()
    if output.err.is_tty and not _wants_lines():
        from codomyrmex.cli.live_view import LiveView

        return LiveView(output.err)
    from codomyrmex.cli.line_report import LineReporter

    return LineReporter(output.err)


class Guarded:
    """A `RunSource` that passes on Ctrl-C and a time limit to the engine, once each."""

    def __init__(
        self,
        source: RunSource,
        interrupts: Interrupts,
        cancel: Callable[[bool], None],
        tell: Callable[[str], None],
        *,
        warnings: Callable[[], list[str]] = list,
        timeout_s: float | None = None,
    ) -> None:
        self._source = source
        self._warnings = warnings
        self._interrupts = interrupts
        self._cancel = cancel
        self._tell = tell
        self._deadline_s = time.monotonic() + timeout_s if timeout_s is not None else None
        self._passed_on = 0
        self.timed_out = False

    def look(self) -> Moment:
        """See `RunSource`."""
        for text in self._warnings():
            self._tell(f"warning: {text}")
        return self._source.look()

    def wait(self, timeout_s: float) -> None:
        """See `RunSource`."""
        self._source.wait(timeout_s)
        while self._passed_on < min(self._interrupts.count, 2):
            self._passed_on += 1
            again = self._passed_on > 1
            self._tell("killing what runs" if again else "cancelling; Ctrl-C again kills what runs")
            self._cancel(again)
        if self._deadline_s is not None and time.monotonic() >= self._deadline_s:
            self._deadline_s, self.timed_out = None, True
            self._tell("the time is up: cancelling")
            self._cancel(False)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the run."""
        return self._passed_on > 0


def see_through(
    invocation: Invocation,
    engine: OrchestrationEngine,
    source: HostedRun,
    *,
    timeout_s: float | None = None,
) -> tuple[RunView, int]:
    """Follows a hosted run to its end; the run and the exit code that it deserves."""
    from codomyrmex.cli.engine_warnings import EngineWarnings

    run_id = source.run_id
    reporter = reporter_for(invocation.output)
    with Interrupts() as interrupts, EngineWarnings() as warnings:
        guarded = Guarded(
            source,
            interrupts,
            lambda kill: engine.cancel(run_id, kill=kill),
            reporter.note,
            warnings=warnings.take,
            timeout_s=timeout_s,
        )
        run = follow(guarded, reporter)
    if run.status == "completed":
        return run, 0
    if guarded.timed_out:
        return run, TIMED_OUT
    return run, INTERRUPTED if guarded.interrupted else WORK_FAILED


def summary(run: RunView) -> dict[str, Any]:
    """What `--json` says of a run that ended."""
    counts = run.tasks
    return {
        "execution_id": run.execution_id,
        "workflow": run.workflow,
        "status": run.status,
        "duration_s": run.duration_s,
        "outputs": dict(run.outputs or {}),
        "tasks": {
            name: getattr(counts, name) for name in ("total", "completed", "failed", "skipped", "cancelled")
        },
        "failed_step": run.failed_step,
        "error": run.error,
    }


def tell_outcome(
    invocation: Invocation,
    workspace: Workspace,
    reads: RunReads,
    run: RunView,
    code: int,
    *,
    again: Next | None = None,
) -> None:
    """The result on stdout; why it failed, and how to go on, on stderr."""
    output = invocation.output
    output.apart()
    lines = outcome_lines(output.out, run, datetime.now(UTC))
    if code == 0:
        output.answer(summary(run), lines)
        return
    error = {WORK_FAILED: "run_failed", TIMED_OUT: "timed_out", INTERRUPTED: "interrupted"}[code]
    if run.status == "cancelled" and code == WORK_FAILED:
        error = "cancelled"
    show = invocation.command(workspace, "show", run.execution_id)
    message = run.error or f"run {run.execution_id} is {run.status}"
    output.failed(summary(run), lines, code=error, message=message, hint=show)
    if run.status == "failed" and not output.json:
        output.err.line()
        for line in failure_blocks(output.err, invocation, workspace, reads, run, again=again):
            output.err.line(line)
        output.err.flush()


def _wants_lines() -> bool:
    """A terminal that cannot move its cursor, or a build machine that only looks like one."""
    import os

    return os.environ.get("TERM", "dumb") == "dumb" or bool(os.environ.get("CI"))
