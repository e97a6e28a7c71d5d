"""The block under a failed step: the exception, the user's own frame, the end of its log, what to do next."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from codomyrmex.cli.figures import duration_text
from codomyrmex.cli.run_text import counts_text
from codomyrmex.cli.status_signs import status_sign
from codomyrmex.cli.terminal import Terminal, one_line, printable, shorten
from codomyrmex.logistics.orchestration.project.run_views import TaskView

LOG_LINES = 5
_TAIL_BYTES = 16 * 1024
_MESSAGE_LINES = 12
# A built-in action is called by our own code, which is nobody's frame to look at.
_OWN_CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def failure_lines(terminal: Terminal, task: TaskView, log_tail: Sequence[str]) -> list[str]:
    """What failed and why, and how its log ends."""
    lines = [_head(terminal, task), *(f"  {line}" for line in _error_lines(terminal, task))]
    if log_tail:
        bar = "│" if terminal.unicode else "|"
        lines += ["", terminal.paint("  end of its log", "dim")]
        lines += [f"  {terminal.paint(bar, 'dim')} {_fitted(terminal, line)}" for line in log_tail]
    return lines


def next_lines(terminal: Terminal, following: Sequence[tuple[str, str]]) -> list[str]:
    """The commands to go on with, each with what it is for; under it where the line would be too long."""
    if not following:
        return []
    width = max(len(command) for command, _ in following)
    beside = terminal.width is None or width + 6 + max(len(about) for _, about in following) <= terminal.width
    lines = ["", terminal.paint("  next", "dim")]
    for command, about in following:
        painted = terminal.paint(command, "bold")
        if beside:
            lines.append(f"    {painted}{' ' * (width - len(command))}  {terminal.paint(about, 'dim')}")
        else:
            lines += [f"    {painted}", f"      {terminal.paint(about, 'dim')}"]
    return lines


def log_tail(path: str | None, count: int = LOG_LINES) -> list[str]:
    """The last lines of a log with any text in them, safe to print; none where there is no log."""
    if path is None:
        return []
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    # A progress bar rewrites its line; what counts is what it said last.
    lines = [printable(line.rstrip("\r").rpartition("\r")[2]).rstrip() for line in text.split("\n")]
    return [line.expandtabs(4) for line in lines if line][-count:]


def _head(terminal: Terminal, task: TaskView) -> str:
    parts = [status_sign(terminal, task.status), terminal.paint(one_line(task.name), "bold"), _ending(task)]
    return " ".join(part for part in parts if part)


def _ending(task: TaskView) -> str:
    if task.counts is not None:
        return f"failed: {counts_text(task.counts, 'item')}"
    error = task.error or {}
    text = str(error.get("kind") or "failed").replace("_", " ")
    if task.duration_s is not None:
        text += f" after {duration_text(task.duration_s)}"
    return f"{text}, on attempt {task.attempt}" if task.attempt > 1 else text


def _error_lines(terminal: Terminal, task: TaskView) -> Iterable[str]:
    error = task.error or {}
    kind = str(error.get("type") or "").rpartition(".")[2]
    message = printable(str(error.get("message") or task.reason or "")).rstrip().split("\n")
    first = f"{kind}: {message[0]}" if kind else message[0]
    if first:
        yield terminal.paint(first, "red")
    yield from message[1:_MESSAGE_LINES]
    if len(message) > _MESSAGE_LINES:
        yield f"({len(message) - _MESSAGE_LINES} more lines)"
    frame = error.get("frame")
    if frame and not str(frame).startswith(_OWN_CODE):
        yield f"at {one_line(str(frame))}"
    if error.get("kind") == "out_of_memory":
        yield terminal.paint(
            "more for it: resources: {memory: 2GiB}, or retry: {max_attempts: 3, memory: 2}", "dim"
        )


def _fitted(terminal: Terminal, line: str) -> str:
    return line if terminal.width is None else shorten(line, terminal.width - 4, unicode=terminal.unicode)
