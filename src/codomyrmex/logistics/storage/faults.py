"""What the driver says, in the words of this package.

Layer: `logistics.storage`. No error of the driver crosses the border of this package: each is turned into a
`StoreError` that says what happened to which file and what to do. Result codes:
https://sqlite.org/rescode.html.
"""

from __future__ import annotations

import errno
import os

import apsw

from codomyrmex.exceptions import StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreIOError
from codomyrmex.logistics.storage.database import StoreConstraint

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_IO_ERRORS = (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError, apsw.NoLFSError)
_WAITED_IN_VAIN = (apsw.BusyError, apsw.LockedError, apsw.ProtocolError)


def translated(
    error: apsw.Error, path: str, *, sql: str | None = None, system_errno: int = 0, committing: bool = False
) -> StoreError:
    """The `StoreError` that stands for a driver's error; `committing` where COMMIT itself raised it."""
    said = str(error)
    if isinstance(error, apsw.FullError) or (isinstance(error, apsw.IOError) and system_errno in _NO_SPACE):
        return StoreFull(
            f"no space left to write the state {path} ({said})",
            hint="free some space on its disk (or in the quota), then resume",
            outcome_unknown=committing,
        )
    if isinstance(error, _WAITED_IN_VAIN):
        return busy(path)
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return StoreCorrupt(
            f"{path} is damaged, or not a state of codomyrmex ({said})",
            hint="move it away to start anew, or put a copy of it back (state.db, without -wal and -shm)",
            outcome_unknown=committing,
        )
    if isinstance(error, _IO_ERRORS):
        reason = f"{said}: {_errno_text(system_errno)}" if system_errno else said
        return StoreIOError(
            f"the state {path} could not be read or written ({reason})",
            hint="check the disk and the permissions of the folder, then resume",
            outcome_unknown=committing,
        )
    if isinstance(error, apsw.ConstraintError):
        return StoreConstraint(f"a rule of the state was broken ({said}){_statement(sql)}")
    message = f"the state {path} refused a statement ({said}){_statement(sql)}"
    return StoreError(message, outcome_unknown=committing)


def busy(path: str) -> StoreBusy:
    """The error of a wait for the state that came to its end."""
    return StoreBusy(
        f"another process kept the state {path} to itself for too long",
        hint="look for a process that was stopped (SIGSTOP) while it wrote; continue or end it",
    )


def _errno_text(number: int) -> str:
    return os.strerror(number)


def _statement(sql: str | None) -> str:
    return f" in: {' '.join(sql.split())[:200]}" if sql else ""
