"""What an attempt used: CPU time and the peak of its memory.

Layer: worker. Asked for before and after every attempt, so it has to be cheap: a few system calls, together some
microseconds. On Linux the kernel forgets a process's peak when 5 is written to its `clear_refs`, so the peak
after an attempt is that attempt's own; it counts from what the worker had before. CPU time is that of this process
and of those it has waited for. Of them, peaks are kept for ever and only the largest: the attempt's is known
where it is above all before it, and of a command that `shell` ran always.

Source: getrusage(2), proc(5). What a new program's peak is begins with that of the process it was started from,
so a command never seems smaller than its worker.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
_RESET = "/proc/%d/clear_refs"
_commands: list[int] = []
"""The peaks, in bytes, of the commands that this attempt ran."""


def command_ended(used: Any) -> None:
    """A command of this attempt has ended; `used` is what `os.wait4` says of it."""
    _commands.append(used.ru_maxrss * _UNIT_BYTES)


class Usage:
    """Of the attempts of one runner, one after the other; made in it."""

    __slots__ = ("_children", "_children_before", "_own", "_own_before", "_reset", "_resets", "_rusage")

    def __init__(self) -> None:
        import resource

        self._rusage = resource.getrusage
        self._own, self._children = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
        self._reset = _RESET % os.getpid()
        self._resets = True
        self._own_before: Any = self._rusage(self._own)
        self._children_before: Any = self._rusage(self._children)
        """As it was after the last attempt: nobody is waited for in between."""

    def begin(self) -> None:
        """An attempt is about to run."""
        if self._resets:
            self._forget_peak()
        if _commands:
            _commands.clear()
        self._own_before = self._rusage(self._own)

    def end(self) -> tuple[float, Optional[int]]:
        """CPU seconds and peak bytes since `begin`; None for a peak that is not known."""
        own, own_now = self._own_before, self._rusage(self._own)
        children, children_now = self._children_before, self._rusage(self._children)
        self._children_before = children_now
        cpu_s = own_now.ru_utime - own.ru_utime + own_now.ru_stime - own.ru_stime
        cpu_s += children_now.ru_utime - children.ru_utime + children_now.ru_stime - children.ru_stime
        peak = max(_commands, default=-1)
        if self._resets:
            peak = max(peak, (own_now.ru_maxrss - own.ru_maxrss) * _UNIT_BYTES)
        largest = children_now.ru_maxrss
        if largest > children.ru_maxrss and largest > own_now.ru_maxrss:
            peak = max(peak, largest * _UNIT_BYTES)
        return cpu_s, peak if peak >= 0 else None

    def _forget_peak(self) -> None:
        """Opened each time: an action may have closed what it found open, and opened a file of its own there.

        Where the kernel has no such file, or lets nobody write to it, peaks are not known.
        """
        try:
            opened = os.open(self._reset, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            self._resets = False
            return
        try:
            os.write(opened, b"5")
        except OSError:
            self._resets = False
        finally:
            os.close(opened)
