"""Whether an attempt has left processes behind.

Layer: worker. A runner asks after each attempt, so the answer "no" has to be cheap: it has no child, and its
supervisor, on whom orphans hang, has none but the runner (one system call each, less than a microsecond
together). Otherwise every process below the supervisor is looked at; what has ended and was only not waited
for is nothing left behind. A runner does not end what it finds: threads of the action may still start more,
and helpers of libraries would be missed by the next attempt. The whole worker goes instead.
"""

from __future__ import annotations

import os

from . import tree


class Leftovers:
    """Of one runner."""

    __slots__ = ("_alone", "_descriptor", "_path", "_supervisor")

    def __init__(self, supervisor: int) -> None:
        self._supervisor = supervisor
        self._path = "/proc/%d/task/%d/children" % (supervisor, supervisor)
        self._alone = b"%d " % os.getpid()
        self._descriptor = -1
        self._open()

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1  # another system, or a kernel without that list

    def any(self) -> bool:
        """True when a process lives that was started below this one."""
        return (_has_children() or self._has_orphans()) and bool(self._living())

    def _has_orphans(self) -> bool:
        try:
            return os.pread(self._descriptor, 64, 0) != self._alone
        except OSError:
            self._open()  # the action closed what it found open
            return self._descriptor >= 0

    def _living(self) -> list[int]:
        own = os.getpid()
        return [pid for pid in tree.descendants(self._supervisor) if pid != own]


def _has_children() -> bool:
    """Whether this process has children, those that have ended included; none is waited for."""
    if not hasattr(os, "waitid"):
        return True  # macOS before Python 3.13
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
