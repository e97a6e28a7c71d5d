"""The lock of a state that stands between processes: `flock` on a file beside the database.

Layer: `logistics.storage`. SQLite's own lock is polled at growing intervals, so beside a busy engine another
may wait for seconds; here the kernel wakes who waits as soon as the holder lets go. It gives no turns: under
constant load of two processes waits stay below a tenth of a second. The lock is the kernel's: it is gone
the moment its process is, however that died.

A wait has an end, though `flock` knows none: after a few short tries a helper thread blocks in the kernel
and the caller waits for the helper. Whoever gives up leaves its descriptor to the helper, which closes it
(and so lets go of the lock) when it gets it at last.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time

from codomyrmex.logistics.storage import guard

# Most transactions last well under a tenth of a millisecond: look again before asking a thread to wait.
_SHORT_WAITS_S = (0.000_02, 0.000_05, 0.000_1, 0.000_2)


class FileLock:
    """An exclusive lock on a file. Not for use by two threads at once: its owner has a mutex of its own."""

    __slots__ = ("_descriptor", "_mode", "path")

    def __init__(self, path: str, mode: int = 0o600) -> None:
        self.path = path
        self._mode = mode
        self._descriptor = -1

    def acquire(self, timeout_s: float) -> bool:
        """Takes the lock; False when it was not had within `timeout_s` seconds. Makes the file if missing."""
        if self._descriptor < 0:
            self._descriptor = _open(self.path, self._mode)
        if self._try():
            return True
        for wait_s in _SHORT_WAITS_S:
            time.sleep(wait_s)
            if self._try():
                return True
        return self._wait(timeout_s)

    def release(self) -> None:
        """Lets go of the lock; harmless when it is not held."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Closes the file; whoever shares it (the parent of a fork) keeps the lock, anybody else loses it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _wait(self, timeout_s: float) -> bool:
        waiter = _Waiter(self._descriptor)
        try:
            threading.Thread(target=waiter.run, name="state-lock", daemon=True).start()
            waiter.done.wait(timeout_s)
        except BaseException:
            self._give_up(waiter)
            raise
        if waiter.failure is not None:
            raise waiter.failure
        return waiter.done.is_set() or self._give_up(waiter)

    def _give_up(self, waiter: _Waiter) -> bool:
        """Hands the descriptor to the waiter for closing; True if it got the lock in the last instant."""
        with waiter.guard:
            if waiter.done.is_set():
                return waiter.failure is None
            waiter.abandoned = True
            self._descriptor = -1
        return False


class _Waiter:
    """One blocking `flock`, made in a thread of its own."""

    __slots__ = ("abandoned", "descriptor", "done", "failure", "guard")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.guard = threading.Lock()
        self.done = threading.Event()
        self.abandoned = False
        self.failure: OSError | None = None

    def run(self) -> None:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        except OSError as error:
            self.failure = error
        with self.guard:
            if self.abandoned:
                os.close(self.descriptor)
            else:
                self.done.set()


def _open(path: str, mode: int) -> int:
    with guard.permitted():
        return open_with_mode(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, mode)


def open_with_mode(path: str, flags: int, mode: int) -> int:
    """`os.open` for a file that may have to be made; a mode for a group holds in spite of the umask."""
    descriptor = os.open(path, flags, mode)
    try:
        found = os.fstat(descriptor)
        if mode & ~found.st_mode & 0o777 and found.st_uid == os.geteuid():
            os.fchmod(descriptor, mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
