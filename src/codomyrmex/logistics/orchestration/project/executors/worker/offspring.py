"""The processes that an attempt starts: whether it left some behind, and what becomes of one that it forked.

Layer: worker. A runner asks after each attempt whether processes are left, so the answer "no" has to be
cheap: it has no child, and its supervisor, on whom orphans hang, has none but the runner (one system call
each, less than a microsecond together). Otherwise every process below the supervisor is looked at; what has
ended and was only not waited for is nothing left behind. A runner does not end what it finds: threads of the
action may still start more, and helpers of libraries would be missed by the next attempt. The whole worker
goes instead.

A process that the action forked is a copy of the runner. When it comes out of the action, by `sys.exit` or
otherwise, it must neither answer for the attempt nor serve the next one: it ends, as a program would.
"""

from __future__ import annotations

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

    __slots__ = ("_alone", "_descriptor", "_path", "_pid", "_supervisor")

    def __init__(self, supervisor: int) -> None:
        self._supervisor = supervisor
        self._pid = os.getpid()
        self._path = "/proc/%d/task/%d/children" % (supervisor, supervisor)
        self._alone = b"%d " % self._pid
        self._descriptor = -1
        self._open()

    def is_left(self) -> bool:
        """True when a process lives that was started below the runner."""
        return (_has_children() or self._has_orphans()) and bool(self._living())

    def leave_if_forked(self) -> None:
        """Ends this process if it is a copy of the runner; to be called in a `finally` around the action."""
        if os.getpid() != self._pid:
            _leave(sys.exc_info()[1])

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1  # another system, or a kernel without that list

    def _has_orphans(self) -> bool:
        try:
            return os.pread(self._descriptor, 64, 0) != self._alone
        except OSError:
            self._open()  # the action closed what it found open
            return True

    def _living(self) -> list[int]:
        return [pid for pid in tree.descendants(self._supervisor) if pid != self._pid]


def _has_children() -> bool:
    """Whether this process has children, those that have ended included; none is waited for."""
    if _waitid is None:
        return True
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
