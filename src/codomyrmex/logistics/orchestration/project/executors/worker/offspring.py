"""The processes that an attempt starts: whether it left some behind, and what becomes of one that it forked.

Layer: worker. A runner asks after each attempt whether processes are left, so the answer "no" has to be
cheap: the kernel's list of its children is empty, and that of its supervisor, on whom orphans hang, names the
runner alone (two reads of open files). Children of other threads that still run are asked for only when there
are such. If anything is found, every process below the supervisor is looked at; what has ended and was only
not waited for is nothing left behind. Where there are no such lists, orphans escape.

A runner does not end what it finds: threads of the action may still start more, and helpers of libraries would
be missed by the next attempt. The whole worker goes instead.

A process that the action forked is a copy of the runner. When it comes out of the action, by `sys.exit` or
otherwise, it must neither answer for the attempt nor serve the next one: it ends, as a program would.
"""

from __future__ import annotations

import _thread
import os
import sys

from . import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_waitid = getattr(os, "waitid", None)
"""macOS has it from Python 3.13 on."""
_ANY_CHILD = () if _waitid is None else (os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)


class Offspring:
    """Of one runner, made in it."""

    __slots__ = ("_alone", "_children", "_has_lists", "_orphans", "_pid", "_supervisor")

    def __init__(self, supervisor: int) -> None:
        self._supervisor = supervisor
        self._pid = os.getpid()
        self._alone = b"%d " % self._pid
        self._children = self._orphans = -1
        self._has_lists = self._open()

    def is_left(self) -> bool:
        """True when a process lives that was started below the runner."""
        try:
            if self._has_lists:
                found = (
                    os.pread(self._orphans, 64, 0) != self._alone or os.pread(self._children, 64, 0) != b""
                )
                found = found or (_thread._count() > 0 and _has_children())
            else:
                found = _has_children()
        except OSError:
            self._open()  # the action closed what it found open
            found = True
        return found and bool(self._living())

    def leave_if_forked(self) -> None:
        """Ends this process if it is a copy of the runner; to be called in a `finally` around the action."""
        if os.getpid() != self._pid:
            _leave(sys.exc_info()[1])

    def _open(self) -> bool:
        """Opens the lists of children; False on another system, or with a kernel that has none."""
        try:
            self._children = os.open(_list_of(self._pid), os.O_RDONLY | os.O_CLOEXEC)
            self._orphans = os.open(_list_of(self._supervisor), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        return True

    def _living(self) -> list[int]:
        return [pid for pid in tree.descendants(self._supervisor) if pid != self._pid]


def _list_of(pid: int) -> str:
    return "/proc/%d/task/%d/children" % (pid, pid)


def _has_children() -> bool:
    """Whether this process has children, those that have ended included; none is waited for."""
    if _waitid is None:
        return False
    try:
        _waitid(*_ANY_CHILD)
    except ChildProcessError:
        return False
    return True


def _leave(problem: BaseException | None) -> NoReturn:
    """Ends with the exit code, and the traceback, that the interpreter would end with."""
    code = 0 if problem is None else 1
    try:
        if isinstance(problem, SystemExit):
            code = _exit_code(problem.code)
        elif problem is not None:
            sys.excepthook(type(problem), problem, problem.__traceback__)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 0xFF)


def _exit_code(given: object) -> int:
    """What `sys.exit(given)` ends with; a message is written."""
    if isinstance(given, int):
        return given
    if given is not None:
        sys.stderr.write("%s\n" % (given,))
    return int(given is not None)
