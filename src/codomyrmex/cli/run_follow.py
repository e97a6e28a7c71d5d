"""Following a run until it ends: one loop, a source of news, a reporter that tells them.

The source is an engine in this process (`run`, `resume`) or the readers of the state (`watch`); the
reporter is a live view on a terminal, plain lines elsewhere, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskView

REFRESH_S = 0.125


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """One look at a run: how it stands, what runs (the longest first), what waits for somebody, and
    since the last look what ended, what was printed as (task, line), and words to the person; `held` says what a run
    waits for of which nothing runs."""

    run: RunView
    running: Sequence[TaskView] = ()
    ended: Sequence[TaskView] = ()
    said: Sequence[tuple[str, str]] = ()
    waiting: Sequence[str] = ()
    notices: Sequence[str] = ()
    held: str = ""


class RunSource(Protocol):
    """Where the news of one run come from."""

    def look(self) -> Moment:
        """What there is to tell since the last look; cheap enough for every refresh."""

    def wait(self, timeout_s: float) -> None:
        """Returns when the run has ended, or after so many seconds."""


class Reporter(Protocol):
    """Who tells the person at the terminal."""

    def started(self, run: RunView) -> None:
        """Called once, before anything else."""

    def tell(self, moment: Moment) -> None:
        """Called at every refresh; the last call sees the ended run and every task that ended."""

    def note(self, text: str) -> None:
        """A word in between."""

    def close(self) -> None:
        """Called once, whatever happened; leaves the terminal as it was."""


class SilentReporter:
    """Tells nothing."""

    def started(self, run: RunView) -> None:
        """Nothing."""

    def tell(self, moment: Moment) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def follow(source: RunSource, reporter: Reporter) -> RunView:
    """Reports until the run has ended and returns it; an interrupt passes through, the reporter closed."""
    moment = source.look()
    reporter.started(moment.run)
    try:
        while True:
            reporter.tell(moment)
            for notice in moment.notices:
                reporter.note(notice)
            if moment.run.final:
                return moment.run
            source.wait(REFRESH_S)
            moment = source.look()
    finally:
        reporter.close()
