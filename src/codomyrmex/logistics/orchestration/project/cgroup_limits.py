"""How many CPUs and how much memory the control groups of this process leave it.

Layer: shell; reads `/proc` and `/sys` only. A limit of any group above holds too, so the whole chain is read,
from the process's own group up to the mount. Both hierarchies may be there at once: version 1 mounts one
folder for each controller, version 2 one for all (on hybrid machines at `/sys/fs/cgroup/unified`). In a
container the mount often shows only a part of the hierarchy; what lies above it cannot be seen.
Source: cgroups(7), proc_pid_mountinfo(5), Documentation/admin-guide/cgroup-v2.rst of Linux.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NO_LIMIT = 2**62  # version 1 writes the greatest multiple of a page below 2**63
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlGroups:
    """The folders to ask, nearest first: of version 2, of version 1's `cpu`, of version 1's `memory`."""

    unified: tuple[Path, ...] = ()
    cpu: tuple[Path, ...] = ()
    memory: tuple[Path, ...] = ()

    def cpu_count(self) -> int | None:
        """The smallest quota in whole CPUs, rounded up; None without any."""
        quotas = [_quota(*_words(folder / "cpu.max")) for folder in self.unified]
        for folder in self.cpu:
            period = _words(folder / "cpu.cfs_period_us")
            quotas.append(_quota(*_words(folder / "cpu.cfs_quota_us"), *period))
        return min((quota for quota in quotas if quota is not None), default=None)

    def memory_bytes(self) -> int | None:
        """The smallest limit; None without any."""
        files = [folder / "memory.max" for folder in self.unified]
        files += [folder / "memory.limit_in_bytes" for folder in self.memory]
        limits = [int(word) for file in files for word in _words(file)[:1] if word.isdecimal()]
        return min((limit for limit in limits if limit < _NO_LIMIT), default=None)


def find_control_groups(files: Path = Path("/")) -> ControlGroups:
    """The groups of this process; none where the system has none. `files` stands for `/`."""
    paths: dict[str, str] = {}
    for line in _lines(files / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths.update(dict.fromkeys(controllers.split(","), path))  # version 2 has the name ""
    mounts: dict[str, list[tuple[str, str]]] = {}
    for controller, root, place in _mounts(files):
        mounts.setdefault(controller, []).append((root, place))
    found = {
        name: tuple(_chain(files, paths[name], mounts[name]))
        for name in ("", "cpu", "memory")
        if name in paths and name in mounts
    }
    return ControlGroups(unified=found.get("", ()), cpu=found.get("cpu", ()), memory=found.get("memory", ()))


def _mounts(files: Path) -> Iterator[tuple[str, str, str]]:
    """(controller, or "" for version 2; the group that is mounted; where) of each hierarchy."""
    for line in _lines(files / "proc/self/mountinfo"):
        before, separator, after = line.partition(" - cgroup")
        if not separator:
            continue
        root, place = (_plain(word) for word in before.split(" ")[3:5])
        kind, _, options = after.partition(" ")
        if kind == "2":
            yield "", root, place
        elif kind == "":
            for option in options.rpartition(" ")[2].split(","):
                yield option, root, place


def _chain(files: Path, path: str, mounts: list[tuple[str, str]]) -> Iterator[Path]:
    """The folders of a group and of those above it, up to the mount that shows it."""
    top, below = files / mounts[0][1].lstrip("/"), ""
    for root, place in mounts:
        base = root.rstrip("/")
        # A path like `/../other` is of a group outside of what this process may see.
        if (path == base or path.startswith(base + "/")) and "/.." not in path:
            top, below = files / place.lstrip("/"), path[len(base) :]
            break
    folder = top / below.strip("/")
    while folder != top:
        yield folder
        folder = folder.parent
    yield top


def _quota(quota: str = "", period: str = "", *_: str) -> int | None:
    # "max" and -1 mean no quota.
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0 or int(quota) == 0:
        return None
    return -(-int(quota) // int(period))


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _lines(file: Path) -> list[str]:
    try:
        with open(file, "rb", buffering=0) as opened:
            return opened.read().decode(errors="replace").splitlines()
    except OSError:
        return []  # not this system, or a group that is gone or has no such controller


def _plain(word: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), word) if "\\" in word else word
