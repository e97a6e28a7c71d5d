"""Attempt logs as files: which there are, their lines, and what was added since the last look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_MOST_BYTES = 64 * 1024


class AttemptLog(NamedTuple):
    """The log of one attempt of a task."""

    task: str
    attempt: int
    path: Path


def logs_of(folder: Path, task: str | None = None) -> list[AttemptLog]:
    """The logs of a run in the order in which they began; `task` a task, or a step with all its items."""
    found = [log for path in _log_paths(folder) if (log := _read_name(path)) is not None]
    if task is not None:
        found = [log for log in found if task in (log.task, step_of(log.task))]
    return sorted(found, key=_began)


def last_attempts(logs: Iterable[AttemptLog]) -> list[AttemptLog]:
    """Of each task the log of its last attempt."""
    last: dict[str, AttemptLog] = {}
    for log in logs:
        if log.task not in last or last[log.task].attempt < log.attempt:
            last[log.task] = log
    return sorted(last.values(), key=_began)


def step_of(task: str) -> str:
    """The step of a task: `parse` of `parse[17]`."""
    return task.rpartition("[")[0] if task.endswith("]") else task


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a log without their ends; of a line that was rewritten by `\\r` the last form."""
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            yield last_form(line)


def last_form(line: str) -> str:
    """What a progress bar that rewrites its line said last."""
    return line.rstrip("\r\n").rpartition("\r")[2]


class LogTails:
    """Remembers how far each log was read; `news` returns whole lines only, `rest` also the last bit."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[int, bytes]] = {}

    def skip(self, path: str) -> None:
        """Begins at the present end of a log."""
        try:
            self._read[path] = (Path(path).stat().st_size, b"")
        except OSError:
            self._read[path] = (0, b"")

    def news(self, path: str) -> list[str]:
        """Lines that were added since the last call; bounded, the rest comes with the next call."""
        return self._lines(path, _MOST_BYTES, ended=False)

    def rest(self, path: str) -> list[str]:
        """Everything that is left of a log that will not grow any more; it is then forgotten."""
        lines = self._lines(path, -1, ended=True)
        self._read.pop(path, None)
        return lines

    def _lines(self, path: str, most: int, *, ended: bool) -> list[str]:
        offset, begun = self._read.get(path, (0, b""))
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                added = file.read(most)
        except OSError:
            return []
        *whole, begun_next = (begun + added).split(b"\n")
        if ended and begun_next:
            whole.append(begun_next)
            begun_next = b""
        self._read[path] = (offset + len(added), begun_next)
        return [last_form(line.decode(errors="replace")) for line in whole]


def _log_paths(folder: Path) -> list[Path]:
    try:
        return list(folder.glob("*.log"))
    except OSError:
        return []


def _read_name(path: Path) -> AttemptLog | None:
    task, _, attempt = path.stem.rpartition(".")
    return AttemptLog(task, int(attempt), path) if task and attempt.isdecimal() else None


def _began(log: AttemptLog) -> tuple[int, str, int]:
    # The files are hard links of spool files: the time of the last write is the best that all systems keep.
    try:
        return log.path.stat().st_mtime_ns, log.task, log.attempt
    except OSError:
        return 0, log.task, log.attempt
