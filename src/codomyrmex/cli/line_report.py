"""A run told in plain lines, for logs and pipes: one for each step that ended, a count now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic

from codomyrmex.cli.figures import count_text, duration_text
from codomyrmex.cli.run_follow import Moment
from codomyrmex.cli.run_text import progress_text, standing_text, why_text
from codomyrmex.cli.status_signs import status_sign
from codomyrmex.cli.terminal import Terminal, one_line, printable
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskView

INTERVAL_S = 5.0
_MOST_AT_ONCE = 20


def ended_line(terminal: Terminal, task: TaskView) -> str:
    """`✓ build  3.2 s`, `✗ parse[17]  0.3 s  ValueError: no header`."""
    parts = [f"{status_sign(terminal, task.status)} {one_line(task.name)}", duration_text(task.duration_s)]
    if task.counts is not None:
        parts.append(count_text(task.counts.total, "item"))
    if task.status != "completed" or task.source is not None or (task.counts and task.counts.failed):
        parts.append(why_text(task))
    return "  ".join(part for part in parts if part)


def worth_a_line(task: TaskView) -> bool:
    """A step always; an item of a fan-out only when it failed."""
    return task.index is None or task.status == "failed"


def ended_lines(terminal: Terminal, ended: Sequence[TaskView], most: int) -> list[str]:
    """The lines of those worth one; above `most` the failures and a count."""
    told = [task for task in ended if worth_a_line(task)]
    if len(told) <= most:
        return [ended_line(terminal, task) for task in told]
    first = ([task for task in told if task.status == "failed"] or told)[:most]
    rest = count_text(len(told) - len(first), "more step")
    return [*(ended_line(terminal, task) for task in first), f"{rest} ended"]


def said_lines(terminal: Terminal, said: Iterable[tuple[str, str]]) -> Iterator[str]:
    """What steps printed, each line behind the name of its task."""
    bar = terminal.paint("│" if terminal.unicode else "|", "dim")
    for task, line in said:
        yield f"{terminal.paint(one_line(task), 'dim')} {bar} {printable(line)}"


class LineReporter:
    """Writes to one terminal; `now_s` is a clock that never goes back."""

    def __init__(self, terminal: Terminal, *, now_s: Callable[[], float] = monotonic) -> None:
        self._terminal = terminal
        self._now_s = now_s
        self._told_at_s = now_s()
        self._last_heartbeat = ""

    def started(self, run: RunView) -> None:
        """One line: which run, how much there is to do."""
        done = f", {run.tasks.ended:,} of them done" if run.tasks.ended else ""
        self._write([f"{run.workflow} {run.execution_id}: {count_text(run.tasks.total, 'task')}{done}"])

    def tell(self, moment: Moment) -> None:
        """What was printed and what ended; when nothing was told for a while, how far the run is."""
        lines = [*said_lines(self._terminal, moment.said)]
        lines += ended_lines(self._terminal, moment.ended, _MOST_AT_ONCE)
        if lines:
            self._write(lines)
        elif not moment.run.final and self._now_s() - self._told_at_s >= INTERVAL_S:
            self._heartbeat(moment)

    def note(self, text: str) -> None:
        """A word in between."""
        self._write([text])

    def close(self) -> None:
        """Nothing to put back."""

    def _heartbeat(self, moment: Moment) -> None:
        """How far the run is; once only while nothing runs, since that may last for days."""
        run, running = moment.run, moment.running
        text = f"{run.tasks.ended:,}/{run.tasks.total:,} done"
        if standing := standing_text(run):
            text += f", {standing}"
        if run.tasks.failed:
            text += f", {run.tasks.failed:,} failed"
        if running:
            text += f", running: {_names([_running_text(task) for task in running])}"
        elif moment.waiting:
            text += f", waiting: {_names(moment.waiting)}"
        elif moment.held:
            text += f"; {one_line(moment.held)}"
        if running or text != self._last_heartbeat:
            self._write([text])
        self._last_heartbeat = text

    def _write(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._terminal.line(line)
        self._terminal.flush()
        self._told_at_s = self._now_s()


def _running_text(task: TaskView) -> str:
    """`train`, or `train (42 %)` where it says how far it is."""
    return task.name if task.progress is None else f"{task.name} ({progress_text(task.progress)})"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(one_line(name) for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
