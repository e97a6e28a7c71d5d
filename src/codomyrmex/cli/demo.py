"""`codomyrmex demo`: a real workflow, its engine killed in the middle, resumed, the report at the end.

The engine runs in a child process, as `codomyrmex run` would have it; it gets SIGKILL when about half of
its tasks are recorded. What is said about the resumption is read from the journal, not assumed.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.demo_kill import Killed, kill_in_the_middle
from codomyrmex.cli.failure_blocks import failure_blocks
from codomyrmex.cli.figures import count_text, duration_text
from codomyrmex.cli.hosting import open_engine, see_through, summary
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.run_news import HostedRun
from codomyrmex.cli.terminal import Terminal
from codomyrmex.exceptions import CodomyrmexError
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.orchestration.project.run_views import RunView
from codomyrmex.workspace import Workspace

_WORKFLOW = Path("examples", "stdlib_audit", "workflow.yaml")
_MOST_NAMED = 4


@click.command(cls=Command)
@pass_invocation
def demo(invocation: Invocation) -> int:
    """Run a real workflow, kill its engine, and resume it.

    It audits the standard library of this Python: every file is parsed, in hundreds of tasks. The report
    is written to build/stdlib_audit/ in this project, or in the current folder where there is none.
    """
    workflow = example_file()
    workspace = invocation.workspace()
    output = invocation.output
    version = ".".join(map(str, sys.version_info[:3]))
    output.note(f"An engine in a process of its own audits the standard library of Python {version}.")
    output.note("When half of its tasks are recorded it is killed with SIGKILL; then the run is resumed.\n")
    killed = kill_in_the_middle(invocation, workspace, workflow)
    if killed.pid is not None:
        done = f"{killed.recorded:,} of {killed.total:,} tasks recorded"
        output.note(f"\nEngine process {killed.pid} got SIGKILL with {done}.")
        output.note(f"Now the same as: {invocation.command(workspace, 'resume', killed.run_id)}\n")
    else:
        output.note("It was done before it could be killed; nothing is left to resume.")
    return _go_on(invocation, workspace, killed)


def example_file() -> Path:
    """The workflow of the demo: in the source tree, in what was installed, or below the current folder."""
    source = Path(__file__).resolve().parents[3]
    installed = Path(sysconfig.get_path("data"), "share", "codomyrmex")
    for folder in (source, installed, Path.cwd()):
        if (folder / _WORKFLOW).is_file():
            return folder / _WORKFLOW
    raise CodomyrmexError(
        f"this installation has no {_WORKFLOW}",
        hint="it is part of the source: get that, and run `make demo` there",
    )


def _go_on(invocation: Invocation, workspace: Workspace, killed: Killed) -> int:
    with open_engine(workspace, invocation.settings(workspace)) as engine:
        if killed.pid is not None:
            source = HostedRun(engine, streams=invocation.verbose > 0)
            source.run_id = killed.run_id
            engine.resume(killed.run_id)
            run, code = see_through(invocation, engine, source)
        else:
            run = engine.reader.run(killed.run_id)
            code = 0 if run.status == "completed" else 1
        output = invocation.output
        facts = journal_facts(engine.reader, killed)
        output.apart()
        _tell(invocation, workspace, engine.reader, run, facts)
    report = (run.outputs or {}).get("html")
    if code == 0 and report is not None:
        _open_report(invocation, workspace.root / report)
    return code


def journal_facts(reader: RunReader, killed: Killed) -> dict[str, Any]:
    """What the journal says: what began again although it was recorded, what had to be repeated."""
    recorded: set[str] = set()
    begun_again: set[str] = set()
    repeated: list[str] = []
    for event in reader.events(killed.run_id):
        kind, task = event["event"], event["task"]
        if kind == "completed" and task is not None:
            recorded.add(task)
        elif kind == "started" and task in recorded:
            begun_again.add(task)
        elif kind == "returned" and event["details"][-1] == "lost":
            repeated.append(task)
    return {
        "killed_pid": killed.pid,
        "recorded_at_kill": killed.recorded,
        "begun_again_although_recorded": sorted(begun_again),
        "repeated": repeated,
    }


def _tell(
    invocation: Invocation, workspace: Workspace, reader: RunReader, run: RunView, facts: dict[str, Any]
) -> None:
    output = invocation.output
    report = (run.outputs or {}).get("html")
    data = summary(run) | facts | {"report": str(workspace.root / report) if report is not None else None}
    if run.status != "completed":
        message = run.error or f"run {run.execution_id} is {run.status}"
        output.failed(data, [], code="run_failed", message=message)
        if not output.json:
            for line in failure_blocks(output.err, invocation, workspace, reader, run):
                output.err.line(line)
        return
    output.answer(data, story_lines(output.out, run, facts, data["report"]))


def story_lines(terminal: Terminal, run: RunView, facts: dict[str, Any], report: str | None) -> list[str]:
    """The end of the demo in a few lines."""
    counts = run.tasks
    rows = [("completed", f"{count_text(counts.completed, 'task')} in {duration_text(run.duration_s)}")]
    if facts["killed_pid"] is not None:
        again = facts["begun_again_although_recorded"]
        none = "none of them ran again" if not again else f"but {len(again)} of them ran again"
        rows.append(
            ("re-used", f"{count_text(facts['recorded_at_kill'], 'result')} from before the kill; {none}")
        )
        rows.append(("repeated", _repeated_text(facts["repeated"])))
    for name, value in (run.outputs or {}).items():
        if name not in ("html", "json"):
            rows.append((name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)))
    if report is not None:
        rows.append(("report", report))
    width = max(len(name) for name, _ in rows)
    return [f"{terminal.paint(name.ljust(width), 'dim')}  {text}" for name, text in rows]


def _repeated_text(tasks: list[str]) -> str:
    if not tasks:
        return "nothing: no task was under way"
    names = ", ".join(tasks[:_MOST_NAMED]) + (" ..." if len(tasks) > _MOST_NAMED else "")
    return f"{count_text(len(tasks), 'task')} that ran when it died: {names}"


def _open_report(invocation: Invocation, report: Path) -> None:
    """Shows the report where there is somebody to see it and something to show it with."""
    display = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not (invocation.output.out.is_tty and display and report.is_file()) or invocation.json:
        return
    import webbrowser

    webbrowser.open(report.as_uri())
