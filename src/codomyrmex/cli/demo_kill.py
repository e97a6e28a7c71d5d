"""The first half of the demo: an engine in a child process, watched, and killed when half is recorded."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from codomyrmex.cli.hosting import reporter_for
from codomyrmex.cli.invocation import Invocation
from codomyrmex.cli.run_follow import Moment
from codomyrmex.cli.state_access import open_reads
from codomyrmex.cli.watch import WatchedRun
from codomyrmex.exceptions import CodomyrmexError
from codomyrmex.workspace import Workspace

_LEAST_TASKS = 50
_START_S = 60.0
_LOOK_EVERY_S = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Killed:
    """A run and how far it was when its engine was killed; `pid` None means that it had ended by then."""

    run_id: str
    pid: int | None
    recorded: int
    total: int


def kill_in_the_middle(invocation: Invocation, workspace: Workspace, workflow: Path) -> Killed:
    """Starts the workflow in a child, kills it when half is recorded, and says how far it was."""
    known = _latest_run(invocation, workspace)
    words = ["run", str(workflow), "--root", str(workspace.root), "--state", str(workspace.state)]
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, "-m", "codomyrmex", *words, "-q", "--json"], stdout=said, stderr=said
        )
        try:
            run_id = _started(invocation, workspace, child, known, said)
            return _watched(invocation, workspace, child, run_id)
        finally:
            child.kill()
            child.wait()


def _latest_run(invocation: Invocation, workspace: Workspace) -> str | None:
    with open_reads(invocation, workspace) as (_, reads):
        runs = reads.runs(1)[0]
        return runs[0].execution_id if runs else None


def _started(
    invocation: Invocation,
    workspace: Workspace,
    child: subprocess.Popen[bytes],
    known: str | None,
    said: IO[bytes],
) -> str:
    """The id of the child's run, as soon as it is stored."""
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s:
        ended = child.poll() is not None
        latest = _latest_run(invocation, workspace)
        if latest is not None and latest != known:
            return latest
        if ended:
            break
        time.sleep(_LOOK_EVERY_S)
    said.seek(0)
    told = said.read().decode(errors="replace").strip()
    raise CodomyrmexError(f"the engine of the demo did not start: {told[-2000:] or 'it said nothing'}")


def _watched(
    invocation: Invocation, workspace: Workspace, child: subprocess.Popen[bytes], run_id: str
) -> Killed:
    reporter = reporter_for(invocation.output)
    with open_reads(invocation, workspace) as (_, reads):
        source = WatchedRun(reads, run_id, abandoned="", streams=invocation.verbose > 0)
        moment = source.look()
        reporter.started(moment.run)
        try:
            while not (moment.run.final or _is_half(moment)):
                source.wait(_LOOK_EVERY_S)
                moment = source.look()
                reporter.tell(moment)
        finally:
            reporter.close()
        child.kill()
        child.wait()
        run = reads.run(run_id)
    pid = None if run.final else child.pid
    return Killed(run_id=run_id, pid=pid, recorded=run.tasks.completed, total=run.tasks.total)


def _is_half(moment: Moment) -> bool:
    counts = moment.run.tasks
    return counts.total >= _LEAST_TASKS and 2 * counts.ended >= counts.total
