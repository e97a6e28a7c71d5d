"""What a run waits for from outside, its children's included, and the words that tell a person of it.

Only approvals and signals are told: a timer ends by itself, a child run by what it waits for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from shlex import join
from typing import NamedTuple

from codomyrmex.cli.terminal import one_line, shorten
from codomyrmex.exceptions import RunNotFound
from codomyrmex.logistics.orchestration.project.run_views import RunReads, TaskView, Wait

TOLD = ("approval", "signal")
_LONGEST_LINE = 78
_MOST_AT_ONCE = 5
_LONGEST_QUESTION = 300


class OpenWait(NamedTuple):
    """A task of a run that goes on when somebody answers it, or sends its signal."""

    run_id: str
    task: str
    wait: Wait

    def notice(self, command: Callable[..., str], now: datetime) -> str:
        """What it waits for and the command that ends it: one line, or two where it is a long one.

        `command` makes a command line of words, as they are typed where the user stands.
        """
        said = f"{self.task} waits for {self.wait.text(now)}"
        said = shorten(one_line(said), _LONGEST_QUESTION)
        if self.wait.reason == "approval":
            line = command("approvals", "answer", self.run_id, self.task)
        else:
            line = command("runs", "signal", self.run_id, self.wait.what)
        beside = len(said) + len(line) + 3 <= _LONGEST_LINE
        return f"{said} ({line})" if beside else f"{said}\n  {line}"


def open_waits(reads: RunReads, run_id: str, tasks: Sequence[TaskView] | None = None) -> Iterator[OpenWait]:
    """What a run and its open children wait for now; `tasks` are the run's own where they were read already."""
    for task in reads.tasks(run_id, status="blocked") if tasks is None else tasks:
        if task.waiting is None:
            continue
        if task.waiting.reason in TOLD:
            yield OpenWait(run_id, task.name, task.waiting)
        elif task.waiting.reason == "child":
            with suppress(RunNotFound):  # it is about to begin
                yield from open_waits(reads, task.waiting.what)


def notices_of(waits: Sequence[OpenWait], command: Callable[..., str], now: datetime) -> list[str]:
    """The notices of several at once: the first ones, and where to see the rest."""
    told = [each.notice(command, now) for each in waits[:_MOST_AT_ONCE]]
    if len(waits) > _MOST_AT_ONCE:
        told.append(f"and {len(waits) - _MOST_AT_ONCE:,} more: {command('approvals', 'list')}")
    return told


def paused_text(resume: str) -> str:
    """Said once when a run is paused; `resume` is the command that goes on."""
    return f"the run is paused, nothing new starts: {resume} goes on"


def plain_command(*words: str) -> str:
    """A command line where nothing is known of where the user stands."""
    return join(("codomyrmex", *words))
