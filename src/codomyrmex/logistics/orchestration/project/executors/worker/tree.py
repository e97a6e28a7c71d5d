"""Finding and ending the processes below one, those that left its group and session included.

Layer: worker; the engine uses it too. On Linux the supervisor is a child subreaper, so whatever was started
under it stays below it, however often it forked or called setsid. The parent of every process is read from
/proc in one pass. Elsewhere `ps` answers the same question, without the subreaper's guarantee.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_supervisor: list[int] = []
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def parents() -> dict[int, int]:
    """{pid: parent's pid} of every process that can be seen; zombies are left out."""
    if not sys.platform.startswith("linux"):
        return _parents_from_ps()
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/" + name + "/stat", "rb", buffering=0) as file:
                    fields = file.read(1024).rpartition(b")")[2].split(None, 2)
            except OSError:
                continue  # ended meanwhile
            if len(fields) == 3 and fields[0] not in (b"Z", b"X"):
                found[int(name)] = int(fields[1])
    return found


def _parents_from_ps() -> dict[int, int]:
    import subprocess

    listing = subprocess.run(
        ["/bin/ps", "-axo", "pid=,ppid=,stat="], capture_output=True, check=False, text=True
    )
    rows = [line.split() for line in listing.stdout.splitlines()]
    return {int(row[0]): int(row[1]) for row in rows if len(row) == 3 and not row[2].startswith("Z")}


def descendants(root: int) -> list[int]:
    """The processes below `root`, nearest first, without it and without zombies."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    level = children.get(root, [])
    while level:
        found.extend(level)
        level = [child for pid in level for child in children.get(pid, ())]
    return found


def send_signal(pids: Iterable[int], number: int) -> None:
    """Signals each; those that are gone or not ours are passed over."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def become_subreaper() -> None:
    """Orphans below this process become its children, not init's (Linux; nothing elsewhere)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """This process is killed when the thread that forked it ends (Linux; nothing elsewhere)."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def set_supervisor(pid: int) -> None:
    """Notes which process collects the orphans of this one; called once, by a runner that starts."""
    _supervisor[:] = [pid]


def orphans() -> list[int]:
    """What this runner's descendants have left behind: processes that now hang on its supervisor.

    Empty outside a worker, where orphans cannot be told from strangers.
    """
    if not _supervisor:
        return []
    parent, me = _supervisor[0], os.getpid()
    try:
        with open(f"/proc/{parent}/task/{parent}/children", "rb", buffering=0) as file:
            roots = {int(pid) for pid in file.read().split()} - {me}
        if not roots:
            return []
    except OSError:
        roots = set()  # a kernel without that file, or another system: look at everything
    below_me = set(descendants(me))
    return [pid for pid in descendants(parent) if pid != me and pid not in below_me]
