"""How much memory the processes of an attempt use, and a limit that the kernel itself holds.

Layer: worker. What counts is what only ending a process gives back: anonymous and shared memory, each page
shared by several processes counted once (proportional set size). Pages of mapped files do not count, since
the kernel drops them when it needs room: to read a large file through a mapping is no use of memory. Adding
this up walks page tables, some milliseconds a GiB; so first a number is looked at that costs nothing and is
never smaller, resident sizes (`statm`), and mostly that decides.

Elsewhere than on Linux, resident sizes are all there is. Source: proc(5), `smaps_rollup` and `children`.
"""

from __future__ import annotations

import os
import sys

from . import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_LINUX = sys.platform.startswith("linux")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_COUNTED = (b"Pss_Anon:", b"Pss_Shmem:")


def limit_of(header: dict[str, Any]) -> tuple[int, int]:
    """The limit of an attempt that this process is about to run, and what it already uses; (0, 0): no limit."""
    limit_bytes = header.get("memory_bytes")
    return (limit_bytes, _own_bytes()) if limit_bytes else (0, 0)


def used_bytes(root: int, at_least: int) -> int:
    """What the processes below `root` use; at most `at_least` where a number from above already says so."""
    if not _LINUX:
        return _used_by_ps(root)
    pids = below(root)
    resident = sum(resident_bytes(pid) for pid in pids)
    return resident if resident <= at_least else sum(map(_proportional_bytes, pids))


def bind(address_bytes: int) -> None:
    """Allows this process, and each that it starts, so much address space beyond what it has now.

    An allocation over it fails at once, in Python with MemoryError. Nothing happens where the system has no
    such limit.
    """
    import resource

    try:
        limit = address_bytes + _statm(os.getpid())[0]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ValueError, OSError):
        pass


def resident_bytes(pid: int) -> int:
    """The resident set of one process (Linux); 0 when it is gone."""
    try:
        return _statm(pid)[1]
    except OSError:
        return 0


def _statm(pid: int) -> tuple[int, int, int]:
    """Address space, resident set, and its part that belongs to files or is shared, in bytes."""
    opened = os.open("/proc/%d/statm" % pid, os.O_RDONLY)
    try:
        fields = os.read(opened, 256).split()
    finally:
        os.close(opened)
    return (int(fields[0]) * _PAGE_BYTES, int(fields[1]) * _PAGE_BYTES, int(fields[2]) * _PAGE_BYTES)


def _own_bytes() -> int:
    try:
        _, resident, mapped = _statm(os.getpid())
        return resident - mapped
    except OSError:
        import resource

        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024


def _proportional_bytes(pid: int) -> int:
    """Anonymous and shared memory; all of it where the kernel does not tell kinds apart."""
    try:
        with open("/proc/%d/smaps_rollup" % pid, "rb") as file:
            fields = [line.split() for line in file]
    except OSError:
        return resident_bytes(pid)  # another user's, an older kernel; or it is gone
    kinds = {row[0]: int(row[1]) * 1024 for row in fields if len(row) == 3}
    found = [kinds[name] for name in _COUNTED if name in kinds]
    return sum(found) if found else kinds.get(b"Pss:", 0)


def below(root: int) -> list[int]:
    """The processes below `root`, found through their parents' lists of children.

    Quicker than `tree.descendants`, which looks at every process of the machine; while processes end, some
    may be missed, which the next look puts right.
    """
    found: list[int] = []
    level = [root]
    while level:
        try:
            level = [child for pid in level for child in _children(pid)]
        except FileNotFoundError:
            return tree.descendants(root)  # a kernel without that list
        found += level
    return found


def _children(pid: int) -> Iterable[int]:
    try:
        threads = os.listdir("/proc/%d/task" % pid)
    except OSError:
        return []  # it has ended
    found: list[int] = []
    for thread in threads:
        try:
            with open("/proc/%d/task/%s/children" % (pid, thread), "rb", buffering=0) as file:
                found += map(int, file.read().split())
        except (ProcessLookupError, PermissionError):
            continue
        except FileNotFoundError:
            if not os.path.exists("/proc/self/task/%d/children" % os.getpid()):
                raise
    return found


def _used_by_ps(root: int) -> int:
    import subprocess

    listing = subprocess.run(["/bin/ps", "-axo", "pid=,rss="], capture_output=True, check=False, text=True)
    rows = [line.split() for line in listing.stdout.splitlines()]
    sizes = {int(row[0]): int(row[1]) * 1024 for row in rows if len(row) == 2}
    return sum(sizes.get(pid, 0) for pid in tree.descendants(root))
