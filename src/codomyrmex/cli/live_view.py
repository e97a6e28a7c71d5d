"""The live view of a run on a terminal: what ended scrolls away above, a bar and what runs now stay below.

The only module that imports rich. It has no thread of its own: each refresh draws once. When it closes, the
moving part is gone from the screen and the lines above stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from codomyrmex.cli.figures import bar_text, duration_text, left_text, percent_text
from codomyrmex.cli.line_report import ended_lines, said_lines
from codomyrmex.cli.run_follow import Moment
from codomyrmex.cli.run_text import progress_text, run_duration_s, task_duration_s
from codomyrmex.cli.terminal import Terminal, one_line
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskView

_MOST_RUNNING = 8
_MOST_ENDED = 6
_MOST_WAITING = 3
_TASK_BAR = 10


class LiveView:
    """A `Reporter` for terminals."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._console = Console(
            file=terminal.stream,
            no_color=not terminal.colour,
            force_terminal=True,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def started(self, run: RunView) -> None:
        """Takes the lower part of the screen."""
        self._live.start()

    def tell(self, moment: Moment) -> None:
        """Lets what was printed and what ended scroll away and draws the rest anew."""
        lines = [*said_lines(self._terminal, moment.said)]
        lines += ended_lines(self._terminal, moment.ended, _MOST_ENDED)
        if lines:
            self._console.print(Text.from_ansi("\n".join(lines)), overflow="ellipsis", no_wrap=True)
        self._live.update(_drawn(moment), refresh=True)

    def note(self, text: str) -> None:
        """A word in between, above the bar."""
        self._console.print(Text(text, style="yellow"))

    def close(self) -> None:
        """Gives the screen back."""
        self._live.stop()


def _drawn(moment: Moment) -> RenderableType:
    parts: list[RenderableType] = [_bar(moment.run)]
    if moment.running:
        parts.append(_running_table(moment.running))
    if moment.waiting:
        parts.append(_waiting_table(moment.waiting))
    if moment.held:
        parts.append(Text(one_line(moment.held), style="yellow"))
    return Group(*parts)


def _bar(run: RunView) -> Table:
    counts = run.tasks
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=32)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True, justify="right")
    figures = Text(f"{counts.ended:,}/{counts.total:,}")
    if counts.failed:
        figures.append(f"  {counts.failed:,} failed", style="bold red")
    bar = ProgressBar(
        total=max(1, counts.total) if run.percent is None else 100,
        completed=counts.ended if run.percent is None else run.percent,
        complete_style="red" if counts.failed else "green",
        finished_style="red" if counts.failed else "green",
    )
    name = Text(f"{one_line(run.workflow)} {run.execution_id}", style="bold")
    grid.add_row(name, bar, figures, _elapsed(run))
    return grid


def _elapsed(run: RunView) -> Text:
    parts = [percent_text(run.percent), duration_text(run_duration_s(run, _now())), left_text(run.left_s)]
    return Text("  ".join(part for part in parts if part), style="dim")


def _running_table(running: Sequence[TaskView]) -> Table:
    now = _now()
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=2)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for task in running[:_MOST_RUNNING]:
        took = duration_text(task_duration_s(task, now))
        again = f"attempt {task.attempt}" if task.attempt > 1 else ""
        said = one_line(task.progress.message) if task.progress is not None else ""
        grid.add_row(
            Text(" ●", style="cyan"),
            Text(one_line(task.name)),
            Text(took, style="dim"),
            _task_bar(task),
            Text("  ".join(part for part in (again, said) if part), style="dim"),
        )
    if len(running) > _MOST_RUNNING:
        grid.add_row("", Text(f"and {len(running) - _MOST_RUNNING} more", style="dim"), "")
    return grid


def _task_bar(task: TaskView) -> Text:
    """How far a task says that it is; nothing where it says nothing."""
    progress = task.progress
    if progress is None:
        return Text()
    if progress.percent is None:
        return Text(progress_text(progress))
    return Text(f"{bar_text(progress.percent, _TASK_BAR)} {progress_text(progress):>5}")


def _waiting_table(waiting: Sequence[str]) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=2)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(no_wrap=True)
    for name in waiting[:_MOST_WAITING]:
        grid.add_row(Text(" ‖", style="yellow"), Text(one_line(name)), Text("waits", style="dim"))
    if len(waiting) > _MOST_WAITING:
        grid.add_row("", Text(f"and {len(waiting) - _MOST_WAITING} more", style="dim"), "")
    return grid


def _now() -> datetime:
    return datetime.now(UTC)
